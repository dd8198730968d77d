package tree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Create makes a file that must not exist yet, with exactly the given
// permissions, for reading and writing. A failed one leaves nothing.
func (d *Dir) Create(name string, perm fs.FileMode) (f *os.File, err error) {
	if err := fsx.Announce(fsx.OpCreate, d.Name(name)); err != nil {
		return nil, err
	}
	err = d.at("create", name, func(dir int, base string) error {
		const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err := retry(func() (int, error) { return unix.Openat(dir, base, flags, uint32(perm.Perm())) })
		if err != nil {
			return err
		}
		// The umask took part in the permissions, and a change of owner is for
		// one who need not be able to write.
		if err := errors.Join(d.giveFd(fd, name), unix.Fchmod(fd, uint32(perm.Perm()))); err != nil {
			_ = unix.Unlinkat(dir, base, 0)
			return errors.Join(err, unix.Close(fd))
		}
		f = d.file(fd, name)
		return nil
	})
	return f, err
}

// CreateTemp is Create under a new name: pattern with its last "*", or its end,
// replaced by random letters.
func (d *Dir) CreateTemp(pattern string, perm fs.FileMode) (f *os.File, name string, err error) {
	err = d.withNewName(pattern, func(n string) error {
		name = n
		f, err = d.Create(n, perm)
		return err
	})
	return f, name, err
}

// MkdirTemp is Mkdir under a new name, which is made as CreateTemp makes it.
func (d *Dir) MkdirTemp(pattern string, perm fs.FileMode) (made *Dir, name string, err error) {
	err = d.withNewName(pattern, func(n string) error {
		name = n
		made, err = d.Mkdir(n, perm)
		return err
	})
	return made, name, err
}

func (d *Dir) withNewName(pattern string, try func(name string) error) error {
	at := strings.LastIndexByte(pattern, '*')
	before, after := pattern, ""
	if at >= 0 {
		before, after = pattern[:at], pattern[at+1:]
	}
	for range 100 {
		if err := try(before + strings.ToLower(rand.Text()[:10]) + after); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return d.err("create", pattern, fs.ErrExist)
}

// Mkdir makes a directory with exactly the given permissions and opens it. What
// is opened is proven to be what was made: a new directory is empty and belongs
// to the caller. Whoever can write d may exchange it between the two calls, but
// only for a directory of the caller's that is just as empty.
func (d *Dir) Mkdir(name string, perm fs.FileMode) (made *Dir, err error) {
	if err := fsx.Announce(fsx.OpMkdir, d.Name(name)); err != nil {
		return nil, err
	}
	err = d.at("mkdir", name, func(dir int, base string) error {
		// Closed until it is proven, so that nobody can put anything in it.
		if err := unix.Mkdirat(dir, base, 0o700); err != nil {
			return err
		}
		const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err := retry(func() (int, error) { return unix.Openat(dir, base, flags, 0) })
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) {
			return ErrSwapped
		}
		if err != nil {
			return err
		}
		if made, err = newDir(fd, d.Name(name), d.give); err != nil {
			return err
		}
		if err := made.proveNew(dir, base); err != nil {
			made.Close()
			return err
		}
		// The group, and with it the setgid bit, may come from the directory above.
		if err := errors.Join(d.giveFd(fd, name), made.chmodNew(perm)); err != nil {
			_ = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
			made.Close()
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// chmodNew sets the permissions of a directory and lets it keep the setgid bit
// that it got from the directory above.
func (d *Dir) chmodNew(perm fs.FileMode) error {
	info, err := d.Info()
	want := uint32(perm.Perm()) | info.Mode&unix.S_ISGID
	if err != nil || info.Mode == want { // a sandbox may refuse to set the bit, also where it is set
		return err
	}
	return unix.Fchmod(d.fd, want)
}

// proveNew fails with ErrSwapped where d cannot be the directory that this
// process has just made at base.
func (d *Dir) proveNew(dir int, base string) error {
	var named unix.Stat_t
	if err := unix.Fstatat(dir, base, &named, unix.AT_SYMLINK_NOFOLLOW); err != nil || d.id != (ID{named.Dev, named.Ino}) {
		return ErrSwapped
	}
	for _, err := range d.names() {
		return errors.Join(err, ErrSwapped)
	}
	info, err := d.Info()
	if err != nil || info.UID == os.Geteuid() {
		return err
	}
	// A file system of other machines (NTFS, FAT, sshfs) may give every file to
	// one owner. What this process makes inside tells: nobody else could have
	// made a file of that process theirs.
	f, probe, err := (&Dir{fd: d.fd, path: d.path}).CreateTemp(".probe-*", 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	made, err := FileInfo(f)
	if err := errors.Join(err, unix.Unlinkat(d.fd, probe, 0)); err != nil {
		return err
	}
	if made.UID != info.UID {
		return fmt.Errorf("%w: it belongs to uid %d", ErrSwapped, info.UID)
	}
	return nil
}

// MkdirAll makes a directory and those above it up to d, as far as they are
// missing, and opens it. One that exists stays as it is. Names are not durable
// before their directories are synced.
func (d *Dir) MkdirAll(name string, perm fs.FileMode) (*Dir, error) {
	at, err := d.OpenDir(".")
	if err != nil {
		return nil, err
	}
	for element := range strings.SplitSeq(name, "/") {
		next, err := at.openOrMkdir(element, perm)
		at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

func (d *Dir) openOrMkdir(name string, perm fs.FileMode) (*Dir, error) {
	next, err := d.OpenDir(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return next, err
	}
	next, err = d.Mkdir(name, perm)
	if errors.Is(err, fs.ErrExist) { // somebody else made it in between
		return d.OpenDir(name)
	}
	if err != nil {
		return nil, err
	}
	if err := d.Sync(); err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

// Symlink makes a symbolic link that holds target, whatever that is.
func (d *Dir) Symlink(target, name string) error {
	if err := fsx.Announce(fsx.OpLink, d.Name(name)); err != nil {
		return err
	}
	return d.at("symlink", name, func(fd int, base string) error {
		if err := unix.Symlinkat(target, fd, base); err != nil || d.give == nil {
			return err
		}
		return unix.Fchownat(fd, base, d.give.uid, d.give.gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Readlink returns what a symbolic link holds.
func (d *Dir) Readlink(name string) (target string, err error) {
	err = d.at("readlink", name, func(fd int, base string) error {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, base, buf)
		if err == nil {
			target = string(buf[:n])
		}
		return err
	})
	return target, err
}

// Link gives the open file f another name below d. It fails where the file is
// not the one that name in from leads to.
func (d *Dir) Link(from *Dir, name, newName string, id ID) error {
	if err := fsx.Announce(fsx.OpLink, d.Name(newName)); err != nil {
		return err
	}
	err := from.at("link", name, func(fromFd int, fromBase string) error {
		return d.at("link", newName, func(fd int, base string) error {
			return unix.Linkat(fromFd, fromBase, fd, base, 0)
		})
	})
	if err != nil {
		return err
	}
	if err := d.Expect(newName, id); err != nil {
		return errors.Join(err, d.Remove(newName))
	}
	return nil
}
