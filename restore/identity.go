package restore

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
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

// inodeAt returns which inode stands at a name; nil for none.
func inodeAt(dir *tree.Dir, name string) (*Identity, error) {
	info, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &Identity{Ino: info.ID.Ino, Size: info.Size, MTime: info.MTime.UnixNano()}, nil
}

// identify is inodeAt that looks into a directory for size and time.
func identify(dir *tree.Dir, name string) (*Identity, error) {
	id, err := inodeAt(dir, name)
	if id == nil || err != nil {
		return nil, err
	}
	info, err := dir.Lstat(name)
	if err != nil || !info.IsDir() {
		return id, err
	}
	id.Size, id.MTime = 0, 0
	below, err := dir.OpenDir(name)
	if err != nil {
		return nil, err
	}
	defer below.Close()
	err = below.Walk(true, func(n tree.Node, err error) error {
		if err != nil || n.IsDir() {
			return err
		}
		id.Size += n.Size
		id.MTime = max(id.MTime, n.MTime.UnixNano())
		return nil
	})
	return id, err
}

// unchanged reports whether the file at name, which has id's inode, is still as
// it was when id was made.
func unchanged(dir *tree.Dir, name string, id *Identity) (bool, error) {
	now, err := identify(dir, name)
	return err == nil && now != nil && *now == *id, err
}
