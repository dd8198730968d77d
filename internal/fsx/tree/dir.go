package tree

import (
	"errors"
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

type owner struct{ uid, gid int }

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
	return filepath.Join("/proc/self/fd", itoa(d.fd), filepath.FromSlash(name))
}

// GiveToOwner makes the handle, and those opened through it from now on, give
// every entry that they make to the owner and group of this directory, where the
// caller may do that: what root makes in the service's directories is the
// service's. It returns d.
func (d *Dir) GiveToOwner() (*Dir, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 && info.UID != 0 {
		d.give = &owner{info.UID, info.GID}
	}
	return d, nil
}

// giveFd hands a descriptor that was just made to the directory's owner.
func (d *Dir) giveFd(fd int, name string) error {
	if d.give == nil {
		return nil
	}
	return d.err("chown", name, unix.Fchown(fd, d.give.uid, d.give.gid))
}

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
