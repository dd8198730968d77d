// Package fsx holds the file-system operations that a backup stands on:
// durable and atomic writes, clone-or-copy, locks that die with their holder,
// and questions about space and mounts.
//
// Durable means: when the call returned nil, the result survives a power cut.
// On Linux that takes an fsync of the file and one of the directory that names
// it. Atomic means: a reader sees the old or the new, never something between.
package fsx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SyncDir makes the names in a directory durable: files created, renamed or
// removed there before the call.
func SyncDir(dir string) error {
	if err := announce(OpSyncDir, dir); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SyncFile makes one file's bytes durable, but not its name: that is SyncDir's.
func SyncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(Sync(f), f.Close())
}

// Sync makes the bytes of an open file durable.
func Sync(f *os.File) error {
	if err := announce(OpSync, f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

// SyncTree makes a whole directory tree durable: every regular file, then every
// directory, deepest first. It does not sync the directory that names root.
func SyncTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			dirs = append(dirs, path)
		case entry.Type().IsRegular():
			return SyncFile(path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = SyncDir(dirs[i])
	}
	return err
}

// WriteFile replaces path by data, atomically and durably. A reader sees the
// old content or the new one; when it fails the old one stands and no temporary
// is left, short of a crash.
func WriteFile(path string, data []byte, perm os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := CreateTemp(dir, "."+filepath.Base(path)+".*", perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := announce(OpWrite, f.Name()); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() != int64(len(data)) {
		return fmt.Errorf("%s: wrote %d bytes, the file has %d", f.Name(), len(data), info.Size())
	}
	if err := Sync(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// CreateTemp creates a new file in dir with exactly the given permissions.
func CreateTemp(dir, pattern string, perm os.FileMode) (*os.File, error) {
	if err := announce(OpCreate, filepath.Join(dir, pattern)); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

// Create creates a file that must not exist yet.
func Create(path string, perm os.FileMode) (*os.File, error) {
	if err := announce(OpCreate, path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

// Rename moves a file or directory within one file system, durably. It replaces
// a file at newPath; RenameNoReplace does not.
func Rename(oldPath, newPath string) error {
	return rename(oldPath, newPath, 0)
}

// RenameNoReplace is Rename that fails with fs.ErrExist when newPath exists.
func RenameNoReplace(oldPath, newPath string) error {
	return rename(oldPath, newPath, unix.RENAME_NOREPLACE)
}

// Exchange swaps two files or directories of one file system in one instant,
// durably.
func Exchange(a, b string) error {
	return rename(a, b, unix.RENAME_EXCHANGE)
}

func rename(oldPath, newPath string, flags uint) error {
	if err := announce(OpRename, newPath); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, oldPath, unix.AT_FDCWD, newPath, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: err}
	}
	oldDir, newDir := filepath.Dir(oldPath), filepath.Dir(newPath)
	err := SyncDir(newDir)
	if oldDir != newDir {
		err = errors.Join(err, SyncDir(oldDir))
	}
	return err
}

// MkdirAll makes a directory and its missing parents, durably.
func MkdirAll(dir string, perm os.FileMode) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &os.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := announce(OpMkdir, dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// RemoveAll removes a tree and makes its absence durable. Directories without
// write permission inside it are made writable first, as cp -a of a read-only
// tree leaves them.
func RemoveAll(path string) error {
	if err := announce(OpRemove, path); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		_ = filepath.WalkDir(path, func(p string, entry fs.DirEntry, err error) error {
			if entry != nil && entry.IsDir() {
				_ = os.Chmod(p, 0o700)
			}
			return nil
		})
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return SyncDir(filepath.Dir(path))
}
