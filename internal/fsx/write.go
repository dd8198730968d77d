package fsx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// WriteFile replaces path by data, atomically and durably. A reader sees the
// old content or the new one. When it fails the old one stands, and no temporary
// is left beside it, short of a crash; when only the last fsync, of the
// directory, fails, the new one stands and may not survive a power cut.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	return WriteFileVia(filepath.Dir(path), path, data, perm)
}

// WriteFileVia is WriteFile with its temporary in another directory of the same
// mount: for a directory in which not even a crash may leave one.
func WriteFileVia(tempDir, path string, data []byte, perm os.FileMode) (err error) {
	f, err := CreateTemp(tempDir, "."+filepath.Base(path)+".*", perm)
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

// Create creates a file that must not exist yet. The umask takes part in its
// permissions.
func Create(path string, perm os.FileMode) (*os.File, error) {
	if err := announce(OpCreate, path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

// tempName matches what WriteFile, and that of package tree, call a temporary.
var tempName = regexp.MustCompile(`^\..+\.([0-9]+|[a-z2-7]{10})$`)

// RemoveTemps removes the temporaries in dir that WriteFile left when it was killed:
// those that nobody has written since a time, for a younger one may belong to a process
// that is at work.
func RemoveTemps(dir string, since time.Time) (removed []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !tempName.MatchString(entry.Name()) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		gone, err := removeUntouched(path, since)
		if err != nil {
			return removed, err
		}
		if gone {
			removed = append(removed, path)
		}
	}
	return removed, nil
}

func removeUntouched(path string, since time.Time) (gone bool, err error) {
	info, err := os.Lstat(path)
	if err != nil || !info.ModTime().Before(since) {
		return false, ignoreMissing(err)
	}
	if err := announce(OpRemove, path); err != nil {
		return false, err
	}
	if err := os.Remove(path); err != nil {
		return false, ignoreMissing(err)
	}
	return true, nil
}

// ignoreMissing returns nil for what somebody else has removed meanwhile.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
