package fsx

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Rename moves a file or directory within one file system, durably. It replaces
// a file at newPath; RenameNoReplace does not. When only the fsync of a
// directory fails, the move has happened and may not survive a power cut.
func Rename(oldPath, newPath string) error {
	return rename(oldPath, newPath, func() error { return renameat(oldPath, newPath, 0) })
}

// RenameNoReplace is Rename that fails with fs.ErrExist when newPath exists.
func RenameNoReplace(oldPath, newPath string) error {
	return rename(oldPath, newPath, func() error {
		err := renameat(oldPath, newPath, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
			// NFS, and ZFS before 2.2.
			return renameClaimed(oldPath, newPath)
		}
		return err
	})
}

func rename(oldPath, newPath string, move func() error) error {
	if err := announce(OpRename, newPath); err != nil {
		return err
	}
	if err := move(); err != nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: err}
	}
	oldDir, newDir := filepath.Dir(oldPath), filepath.Dir(newPath)
	err := SyncDir(newDir)
	if oldDir != newDir {
		err = errors.Join(err, SyncDir(oldDir))
	}
	return err
}

func renameat(oldPath, newPath string, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, oldPath, unix.AT_FDCWD, newPath, flags)
}

// renameClaimed moves without replacing where the file system cannot do that in
// one call. A name is claimed by a call that fails when it is taken: link for a
// file, mkdir for a directory, which may then be replaced while it is empty. A
// crash between the two calls leaves the file under both names, or an empty
// directory.
func renameClaimed(oldPath, newPath string) error {
	info, err := os.Lstat(oldPath)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if err := unix.Link(oldPath, newPath); err != nil {
			return err
		}
		return unix.Unlink(oldPath)
	}
	if err := unix.Mkdir(newPath, 0o700); err != nil {
		return err
	}
	err = renameat(oldPath, newPath, 0)
	if err != nil {
		_ = unix.Rmdir(newPath) // only ours is empty
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		return unix.EEXIST // somebody else took it over in between
	}
	return err
}
