package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"golang.org/x/sys/unix"
)

// estimate adds up what a copy of the sources takes until it is finished. That
// it will share space with the last snapshot helps only then, except on a file
// system where it shares the blocks of the live files from the start: there a
// full disk must not keep a snapshot from being taken that takes next to nothing.
func (s *Store) estimate(from *held, o TakeOptions) (sum int64, err error) {
	// The -wal is copied, and then its pages go into the copy of the database.
	sum = 2*sizeIn(from.db.Dir, from.db.Name+"-wal") + sizeIn(from.registry.dir, from.registry.name)
	if from.db.Dir != nil && !(o.Share.reflinks() && s.clonesFrom(from.db.Dir)) {
		sum += sizeIn(from.db.Dir, from.db.Name)
	}
	if from.chroma == nil {
		return sum, nil
	}
	clones := o.Share.reflinks() && s.clonesFrom(from.chroma)
	err = from.chroma.Walk(true, func(n tree.Node, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && n.Name == "lost+found" {
			return nil // Chroma removed it meanwhile, or it is fsck's
		}
		// A live database is copied page by page.
		if err == nil && n.IsRegular() && (!clones || path.Ext(n.Name) == ".sqlite3") {
			sum += n.Size
		}
		return err
	})
	return sum, err
}

// sizeIn returns the size of a regular file; 0 for anything else, or nothing.
func sizeIn(dir *tree.Dir, name string) int64 {
	if dir == nil {
		return 0
	}
	if info, err := dir.Lstat(name); err == nil && info.IsRegular() {
		return info.Size
	}
	return 0
}

// clonesOwn reports whether published files can be cloned into staging/.
func (s *Store) clonesOwn() bool {
	dir, err := tree.Open(s.snapshots(), tree.Trusted(s.dir))
	if err != nil {
		return false
	}
	defer dir.Close()
	return s.clonesFrom(dir)
}

// clonesFrom reports whether files in dir can be cloned into staging/. It tries
// that with files of ours: closing a live database would drop the locks that
// this process has on it. Between two subvolumes of one btrfs it would work, but
// they do not show to be of one; then a whole copy is counted.
func (s *Store) clonesFrom(dir *tree.Dir) bool {
	var here, there unix.Statfs_t
	if unix.Statfs(s.staging(), &here) != nil || unix.Fstatfs(dir.Fd(), &there) != nil || here.Fsid != there.Fsid ||
		here.Type != there.Type {
		return false
	}
	a, err := os.CreateTemp(s.staging(), "atobackupd-clone-")
	if err != nil {
		return false
	}
	defer os.Remove(a.Name())
	defer a.Close()
	b, err := os.CreateTemp(s.staging(), "atobackupd-clone-")
	if err != nil {
		return false
	}
	defer os.Remove(b.Name())
	defer b.Close()
	if _, err := a.Write([]byte("x")); err != nil {
		return false
	}
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd())) == nil
}
