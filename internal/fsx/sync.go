package fsx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Sync makes the bytes of an open file durable.
func Sync(f *os.File) error {
	if err := announce(OpSync, f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

// SyncFile makes one file's bytes durable, but not its name: that is SyncDir's.
func SyncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(Sync(f), f.Close())
}

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

// SyncTree makes a whole directory tree durable: every regular file, then every
// directory, deepest first. It does not sync the directory that names root.
func SyncTree(root string) error { return syncTree(root, SyncFile) }

// SyncDirs is SyncTree for a tree whose files are durable already: an fsync
// that has nothing to write still waits for the disk's cache, once a file.
func SyncDirs(root string) error {
	return syncTree(root, func(string) error { return nil })
}

func syncTree(root string, file func(path string) error) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			dirs = append(dirs, path)
		case entry.Type().IsRegular():
			return file(path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = SyncDir(dirs[i])
	}
	return err
}
