package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Dir is the handle of one directory. Its methods may be used by several
// goroutines at once, except for Close.
type Dir struct {
	fd   int
	path string // where it was opened: for messages, never to reach a file
	id   ID
	give *owner // whom new entries are given to; nil leaves them the caller's
}

// newDir takes over a descriptor of a directory.
func newDir(fd int, path string, give *owner) (*Dir, error) {
	d := &Dir{fd: fd, path: path, give: give}
	info, err := d.Info()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	d.id = info.ID
	return d, nil
}

// Close releases the handle. It may be called on nil and more than once.
func (d *Dir) Close() error {
	if d == nil || d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	return unix.Close(fd)
}

// Path returns where the directory was when it was opened. It is for messages:
// what lies there now may be something else.
func (d *Dir) Path() string { return d.path }

// Name returns the path of an entry, for messages.
func (d *Dir) Name(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// ID returns the identity of the directory.
func (d *Dir) ID() ID { return d.id }

// Fd returns the descriptor, which stays the handle's.
func (d *Dir) Fd() int { return d.fd }

// ProcPath returns a path of an entry that leads through the descriptor, for
// libraries that open by path. It is good while the handle is open, and does
// not keep the entry itself from being a link or being swapped: whoever opens it
// compares what was opened.
func (d *Dir) ProcPath(name string) string {
	return filepath.Join(procFds, itoa(d.fd), filepath.FromSlash(name))
}

// procFds is the directory of this process's descriptors.
const procFds = "/proc/self/fd"

// OpenDir opens a directory below d; "." opens d once more.
func (d *Dir) OpenDir(name string) (*Dir, error) { return d.openDir(name, 0) }

// OpenDirSameMount is OpenDir that refuses to enter another mount, with an error
// that is unix.EXDEV.
func (d *Dir) OpenDirSameMount(name string) (*Dir, error) {
	return d.openDir(name, unix.RESOLVE_NO_XDEV)
}

func (d *Dir) openDir(name string, resolve uint64) (*Dir, error) {
	fd, err := d.openat("open", name, unix.O_RDONLY|unix.O_DIRECTORY, resolve)
	if err != nil {
		return nil, err
	}
	return newDir(fd, d.Name(name), d.give)
}

// Sync makes the names in the directory durable.
func (d *Dir) Sync() error {
	if err := fsx.Announce(fsx.OpSyncDir, d.path); err != nil {
		return err
	}
	return d.err("fsync", ".", unix.Fsync(d.fd))
}

// SyncFileSystem makes everything on the directory's file system durable, names
// included: for 100,000 new files one call, where an fsync each takes minutes.
// Linux reports here what a write-back since the last call failed at.
func (d *Dir) SyncFileSystem() error {
	if err := fsx.Announce(fsx.OpSync, d.path); err != nil {
		return err
	}
	return d.err("syncfs", ".", unix.Syncfs(d.fd))
}

// at calls fn with a descriptor of the directory that holds the named entry and
// with the entry's last element.
func (d *Dir) at(op, name string, fn func(fd int, base string) error) error {
	if !validName(name) {
		return d.err(op, name, fs.ErrInvalid)
	}
	parent, base := split(name)
	fd := d.fd
	if parent != "." {
		var err error
		if fd, err = d.openat(op, parent, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	return d.err(op, name, fn(fd, base))
}

// openat opens what lies at name without following a link in any element, nor
// leaving d. It creates nothing.
func (d *Dir) openat(op, name string, flags int, resolve uint64) (int, error) {
	if name != "." && !validName(name) {
		return -1, d.err(op, name, fs.ErrInvalid)
	}
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if !withoutOpenat2.Load() {
		fd, err := openat2(d.fd, name, flags, resolve)
		if !missingCall(err) {
			return fd, d.err(op, name, err)
		}
		withoutOpenat2.Store(true)
	}
	fd, err := openEach(d.fd, name, flags, resolve)
	return fd, d.err(op, name, err)
}

// withoutOpenat2 is set where the kernel, or a filter on its calls, has no
// openat2; tests set it to try the other way.
var withoutOpenat2 atomic.Bool

// missingCall reports whether openat2 cannot be used here. A sandbox that does
// not know the call answers EPERM, which opening for reading never is.
func missingCall(err error) bool { return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) }

func openat2(dir int, name string, flags int, resolve uint64) (int, error) {
	if flags&unix.O_PATH == 0 || flags&unix.O_DIRECTORY != 0 {
		// RESOLVE_NO_SYMLINKS refuses a link by itself, and with the better error;
		// only to open a link as such takes both.
		flags &^= unix.O_NOFOLLOW
	}
	how := unix.OpenHow{Flags: uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | resolve}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: something was renamed while the kernel looked.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// openEach is openat2 in one step for each element.
func openEach(dir int, name string, flags int, resolve uint64) (int, error) {
	elements := strings.Split(name, "/")
	fd := dir
	for i, element := range elements {
		how := unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if i == len(elements)-1 {
			how = flags
		}
		next, err := retry(func() (int, error) { return unix.Openat(fd, element, how, 0) })
		if errors.Is(err, unix.ENOTDIR) && isLink(fd, element) {
			err = unix.ELOOP // what O_DIRECTORY makes of O_NOFOLLOW's answer
		}
		if fd != dir {
			unix.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		fd = next
	}
	if resolve&unix.RESOLVE_NO_XDEV != 0 {
		if same, err := sameMount(dir, fd); err != nil || !same {
			unix.Close(fd)
			return -1, errors.Join(err, unix.EXDEV)
		}
	}
	return fd, nil
}

func isLink(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// sameMount reports whether two descriptors lie on one mount: another bind mount
// of the same file system is another one.
func sameMount(a, b int) (bool, error) {
	var x, y unix.Statx_t
	err := unix.Statx(a, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x)
	if err == nil {
		err = unix.Statx(b, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &y)
	}
	return x.Mnt_id == y.Mnt_id && x.Dev_major == y.Dev_major && x.Dev_minor == y.Dev_minor, err
}

// retry repeats a call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// validName reports whether name is a relative path with slashes that names an
// entry below a directory and means nothing but its elements. Bytes that are not
// UTF-8 are the file system's to judge.
func validName(name string) bool {
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." || strings.ContainsRune(element, 0) {
			return false
		}
	}
	return true
}

func split(name string) (parent, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
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
	if err := unix.Fstatat(dir, base, &named, unix.AT_SYMLINK_NOFOLLOW); err != nil ||
		d.id != (ID{named.Dev, named.Ino}) {
		return ErrSwapped
	}
	for _, err := range d.Names() {
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

// giveFd hands a descriptor that was just made to the directory's owner.
func (d *Dir) giveFd(fd int, name string) error {
	if d.give == nil {
		return nil
	}
	return d.err("chown", name, unix.Fchown(fd, d.give.uid, d.give.gid))
}
