package tree

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
)

// How says what a rename does with what stands at the new name.
type How uint

// The ways to rename.
const (
	Replace   How = 0                     // a file or an empty directory goes
	NoReplace How = unix.RENAME_NOREPLACE // it stays, and the error is fs.ErrExist
	Exchange  How = unix.RENAME_EXCHANGE  // the two change places
)

// Rename moves the entry name to newName below to. A link is moved, never
// followed. The move is durable once both directories are synced: for a single
// one, see RenameDurably.
func (d *Dir) Rename(name string, to *Dir, newName string, how How) error {
	if err := fsx.Announce(fsx.OpRename, to.Name(newName)); err != nil {
		return err
	}
	err := d.at("rename", name, func(oldFd int, oldBase string) error {
		return to.at("rename", newName, func(newFd int, newBase string) error {
			err := unix.Renameat2(oldFd, oldBase, newFd, newBase, uint(how))
			if how == NoReplace && lacksNoReplace(err) {
				err = renameClaimed(oldFd, oldBase, newFd, newBase)
			}
			if err != nil {
				return &os.LinkError{Op: "rename", Old: d.Name(name), New: to.Name(newName), Err: err}
			}
			return nil
		})
	})
	var link *os.LinkError
	if errors.As(err, &link) {
		return link
	}
	return err
}

// RenameDurably is Rename between names that lie directly in d and in to, whose
// names are made durable: the new one first, so that a power cut leaves two names
// and never none.
func (d *Dir) RenameDurably(name string, to *Dir, newName string, how How) error {
	if err := d.Rename(name, to, newName, how); err != nil {
		return err
	}
	err := to.Sync()
	if d.id != to.id {
		err = errors.Join(err, d.Sync())
	}
	return err
}

// lacksNoReplace reports whether a file system says that it cannot rename
// without replacing: NFS, ZFS before 2.2, some FUSE file systems.
func lacksNoReplace(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
}

// renameClaimed moves without replacing by a call that fails when the name is
// taken: link for what is no directory, mkdir for a directory, which may then be
// replaced while it is empty. A crash in between leaves a file under both names,
// or an empty directory.
func renameClaimed(oldFd int, old string, newFd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(oldFd, old, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := unix.Linkat(oldFd, old, newFd, name, 0); err != nil {
			return err
		}
		return unix.Unlinkat(oldFd, old, 0)
	}
	if err := unix.Mkdirat(newFd, name, 0o700); err != nil {
		return err
	}
	err := unix.Renameat(oldFd, old, newFd, name)
	if err != nil {
		_ = unix.Unlinkat(newFd, name, unix.AT_REMOVEDIR) // only an empty one goes
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		return unix.EEXIST // somebody else took it over in between
	}
	return err
}
