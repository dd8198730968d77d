package fsx

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

// Free returns the bytes that may still be written on the file system that holds
// path, by anybody but root: what is kept for root is not the daemon's, and a
// command of root's shall see what the daemon sees.
func Free(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(s.Bavail) * unitOf(s), nil
}

// Size returns the bytes that the file system that holds path has in all.
func Size(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(s.Blocks) * unitOf(s), nil
}

// unitOf returns what the counts are in; some file systems advise larger reads in Bsize.
func unitOf(s unix.Statfs_t) int64 { return cmp.Or(s.Frsize, s.Bsize) }

// RequireFree fails with kind NoSpace unless need bytes can be written below
// path and keep bytes stay free after that.
func RequireFree(path string, need, keep int64) error {
	free, err := Free(path)
	if err != nil {
		return err
	}
	if free-need < keep {
		return &failure.Error{Op: "space", Subject: path, Kind: failure.NoSpace,
			Err: fmt.Errorf(
				"%d MiB are free, %d MiB are needed and %d MiB must stay free (min_free)",
				free>>20,
				(need+1<<20-1)>>20,
				keep>>20,
			),
			Hint: "free some space, or lower backup.min_free"}
	}
	return nil
}

// Device returns the number of the file system that holds path. Two bind mounts
// of one file system have the same, and a rename between them still fails.
func Device(path string) (uint64, error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return s.Dev, nil
}

// MountID returns the number of the mount that holds path: what decides whether
// a rename can work.
func MountID(path string) (uint64, error) {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &s); err != nil {
		return 0, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return s.Mnt_id, nil
}

// Nearest returns path or its nearest ancestor that exists.
func Nearest(path string) string {
	for {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}
