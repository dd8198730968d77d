package tree

import (
	"crypto/rand"
	"errors"
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
