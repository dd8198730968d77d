package fsx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// IsMissing reports whether an error says that nothing is at a path, also where the
// path leads through what is no directory.
func IsMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// MkdirAll makes a directory and its missing parents, durably. The umask takes
// part in their permissions. One that exists stays as it is.
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

// MkdirTemp makes a new directory in dir, durably, with exactly the given
// permissions. The pattern is that of os.MkdirTemp. A failed one leaves nothing.
func MkdirTemp(dir, pattern string, perm os.FileMode) (path string, err error) {
	if err := announce(OpMkdir, filepath.Join(dir, pattern)); err != nil {
		return "", err
	}
	if path, err = os.MkdirTemp(dir, pattern); err != nil {
		return "", err
	}
	if err = os.Chmod(path, perm); err == nil {
		err = SyncDir(dir)
	}
	if err != nil {
		os.Remove(path)
		return "", err
	}
	return path, nil
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
