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

// SyncDirs makes the names in a whole directory tree durable, deepest first. It
// is for a tree whose files are durable already: an fsync that has nothing to
// write still waits for the disk's cache, once a file. It does not sync the
// directory that names root.
func SyncDirs(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = SyncDir(dirs[i])
	}
	return err
}
