package dir

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// publisher gives the file oldName in oldDir the name newName in newDir, and
// fails with fs.ErrExist where that exists. errUnsupported means that the file
// system cannot do it this way.
type publisher func(oldDir *os.File, oldName string, newDir *os.File, newName string) error

var errUnsupported = errors.New("the file system can neither rename without replacing nor make hard links nor lock")

// publishers are tried in this order. ext4, xfs, btrfs, tmpfs, vfat and exFAT
// know the first; NFS and some FUSE file systems only the second; the third is
// for what has neither, such as a FUSE driver for exFAT.
var publishers = []publisher{renameNoReplace, linkAndUnlink, lockedRename}

// rename moves from to to without replacing anything, and makes it durable.
func (r *Remote) rename(from, to string) error {
	fromDir, err := r.openDir(path.Dir(from))
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toDir, err := r.openDir(path.Dir(to))
	if err != nil {
		return err
	}
	defer toDir.Close()
	err = errUnsupported
	for _, publish := range r.publish {
		if err = publish(fromDir, path.Base(from), toDir, path.Base(to)); !errors.Is(err, errUnsupported) {
			break
		}
	}
	if err != nil {
		return err
	}
	// The new name first: a power cut in between leaves two names, never none.
	if err := toDir.Sync(); err != nil {
		return err
	}
	return fromDir.Sync()
}

// renameNoReplace is one atomic step.
func renameNoReplace(oldDir *os.File, oldName string, newDir *os.File, newName string) error {
	return unsupported(unix.Renameat2(int(oldDir.Fd()), oldName, int(newDir.Fd()), newName, unix.RENAME_NOREPLACE))
}

// linkAndUnlink is atomic too for the new name: link(2) never replaces. A crash
// in between leaves the old name beside it. Directories have no hard links.
func linkAndUnlink(oldDir *os.File, oldName string, newDir *os.File, newName string) error {
	if err := unsupported(unix.Linkat(int(oldDir.Fd()), oldName, int(newDir.Fd()), newName, 0)); err != nil {
		return err
	}
	return unix.Unlinkat(int(oldDir.Fd()), oldName, 0)
}

// lockedRename looks and then renames, under a lock on the destination's
// directory. Between processes that use this package nothing is replaced; what
// another program makes between the look and the rename would be.
func lockedRename(oldDir *os.File, oldName string, newDir *os.File, newName string) error {
	// A description of its own, for the lock belongs to that: it must exclude
	// other goroutines as well as other processes.
	fd, err := unix.Openat(int(newDir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unsupported(unix.Flock(fd, unix.LOCK_EX)); err != nil {
		return err
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(fd, newName, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return unix.Renameat(int(oldDir.Fd()), oldName, fd, newName)
}

// unsupported marks the errors by which file systems say that they lack a call.
func unsupported(err error) error {
	for _, lacks := range []error{unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM, unix.EMLINK, unix.ENOLCK} {
		if errors.Is(err, lacks) {
			return errors.Join(errUnsupported, err)
		}
	}
	return err
}
