package tree

import (
	"crypto/rand"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Remove removes one entry: a file, a link or an empty directory.
func (d *Dir) Remove(name string) error {
	if err := fsx.Announce(fsx.OpRemove, d.Name(name)); err != nil {
		return err
	}
	return d.at("remove", name, func(fd int, base string) error {
		err := unix.Unlinkat(fd, base, 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // EPERM is what POSIX says of a directory
			if dirErr := unix.Unlinkat(fd, base, unix.AT_REMOVEDIR); !errors.Is(dirErr, unix.ENOTDIR) {
				return dirErr
			}
		}
		return err
	})
}

// RemoveAll removes an entry with everything below it; that it is not there is
// no error. It follows no link and enters no mount: a mounted directory or file
// in the tree is an error (unix.EXDEV or unix.EBUSY) and stays, and so do the
// directories above it, but what lies beside it goes. Directories without write
// permission are made writable first, as cp -a of a read-only tree leaves them.
// The absence is durable once d is synced.
func (d *Dir) RemoveAll(name string) error {
	if err := fsx.Announce(fsx.OpRemove, d.Name(name)); err != nil {
		return err
	}
	if !validName(name) {
		return d.err("remove", name, fs.ErrInvalid)
	}
	parent, base := split(name)
	in, err := d.OpenDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return in.removeTree(base, in, 0)
}

// maxDepth is how many directories deep a removal holds open. What lies deeper
// is moved up first: a tree can be made deeper than a process may have files.
const maxDepth = 100

// removeTree removes base from d. top is where what lies too deep is moved to.
func (d *Dir) removeTree(base string, top *Dir, depth int) error {
	err := unix.Unlinkat(d.fd, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return d.err("remove", base, err)
	}
	if unix.Unlinkat(d.fd, base, unix.AT_REMOVEDIR) == nil {
		return nil
	}
	if depth == maxDepth {
		moved := ".remove-" + rand.Text()
		if err := unix.Renameat(d.fd, base, top.fd, moved); err != nil {
			return d.err("remove", base, err)
		}
		return top.removeTree(moved, top, 0)
	}
	child, dirErr := d.openToRemove(base)
	if errors.Is(dirErr, unix.ENOTDIR) || errors.Is(dirErr, ErrSymlink) {
		return d.err("remove", base, err) // a file that may not be removed, such as an immutable one
	}
	if dirErr != nil {
		return ignoreNotExist(dirErr)
	}
	defer child.Close()
	var failed error
	for name, err := range child.Names() {
		if err == nil {
			err = child.removeTree(name, top, depth+1)
		}
		if err != nil && failed == nil {
			failed = err // one is enough to say why; there may be thousands
		}
	}
	if failed != nil {
		return failed
	}
	return ignoreNotExist(d.err("remove", base, unix.Unlinkat(d.fd, base, unix.AT_REMOVEDIR)))
}

// openToRemove opens a directory of this mount so that its entries can be
// removed.
func (d *Dir) openToRemove(base string) (*Dir, error) {
	child, err := d.OpenDirSameMount(base)
	if errors.Is(err, fs.ErrPermission) {
		if err := d.chmodByPathHandle(base); err != nil {
			return nil, err
		}
		child, err = d.OpenDirSameMount(base)
	}
	if err != nil {
		return nil, err
	}
	info, err := child.Info()
	if err != nil {
		child.Close()
		return nil, err
	}
	if info.Mode&0o300 != 0o300 {
		_ = unix.Fchmod(child.fd, info.Mode|0o700) // where it fails, so does the removal, and says why
	}
	return child, nil
}

// chmodByPathHandle makes a directory readable that cannot be opened for
// reading: through a handle that needs no permission, so that no other one is
// changed.
func (d *Dir) chmodByPathHandle(base string) error {
	fd, err := d.openat("remove", base, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return d.err("chmod", base, unix.Chmod("/proc/self/fd/"+itoa(fd), 0o700))
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
