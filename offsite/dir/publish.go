package dir

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// publisher gives the file oldName in oldDir the name newName in newDir, and
// fails with fs.ErrExist where that exists. errUnsupported means that the file
// system cannot do it this way.
type publisher func(oldDir *tree.Dir, oldName string, newDir *tree.Dir, newName string) error

var errUnsupported = errors.New("the file system can neither rename without replacing nor make hard links nor lock")

// publishers are tried in this order. ext4, xfs, btrfs, tmpfs, vfat and exFAT
// rename without replacing, NFS and some FUSE file systems make hard links, which
// is atomic too for the new name; the second is for what has neither, such as a
// FUSE driver for exFAT.
var publishers = []publisher{renameNoReplace, lockedRename}

// rename moves an object, known by its identity, without replacing anything, and
// makes the move durable.
func (r *Remote) rename(fromDir *tree.Dir, from string, toDir *tree.Dir, to string, id tree.ID) error {
	err := errUnsupported
	for _, publish := range r.publish {
		if err = publish(fromDir, from, toDir, to); !errors.Is(err, errUnsupported) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := toDir.Expect(to, id); err != nil {
		return err
	}
	// The new name first: a power cut in between leaves two names, never none.
	if err := toDir.Sync(); err != nil {
		return err
	}
	return fromDir.Sync()
}

func renameNoReplace(oldDir *tree.Dir, oldName string, newDir *tree.Dir, newName string) error {
	return unsupported(oldDir.Rename(oldName, newDir, newName, tree.NoReplace))
}

// lockedRename looks and then renames, under a lock on the destination's
// directory. Between processes that use this package nothing is replaced; what
// another program makes between the look and the rename would be.
func lockedRename(oldDir *tree.Dir, oldName string, newDir *tree.Dir, newName string) error {
	// A description of its own, for the lock belongs to that: it must exclude
	// other goroutines as well as other processes.
	locked, err := newDir.OpenDir(".")
	if err != nil {
		return err
	}
	defer locked.Close()
	if err := unsupported(unix.Flock(locked.Fd(), unix.LOCK_EX)); err != nil {
		return err
	}
	switch _, err := locked.Lstat(newName); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return oldDir.Rename(oldName, locked, newName, tree.Replace)
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
