package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Identity recognises a file or directory after it has been moved, and shows
// whether it was written to meanwhile. Of a directory, size and time are those
// of the files in it. There is no device number in it: that may be another one
// after a restart, and all the places that are compared lie in one mount.
type Identity struct {
	Ino   uint64 `json:"ino"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime_ns"`
}

// sameInode compares only what a move keeps and a write does not change.
func (id *Identity) sameInode(other *Identity) bool {
	return id != nil && other != nil && id.Ino == other.Ino
}

// inodeAt says which inode is at path; nil for none.
func inodeAt(path string) (*Identity, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return &Identity{Ino: st.Ino, Size: st.Size, MTime: st.Mtim.Nano()}, nil
}

// identify is inodeAt that looks into a directory for size and time.
func identify(path string) (*Identity, error) {
	id, err := inodeAt(path)
	if id == nil || err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return id, err
	}
	id.Size, id.MTime = 0, 0
	err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		id.Size += info.Size()
		id.MTime = max(id.MTime, info.ModTime().UnixNano())
		return nil
	})
	return id, err
}

// unchanged tells whether the file at path, which has id's inode, is still as
// it was when id was made.
func unchanged(path string, id *Identity) (bool, error) {
	now, err := identify(path)
	return err == nil && now != nil && *now == *id, err
}
