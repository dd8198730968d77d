package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// estimate adds up what a copy of the sources takes until it is finished. That
// it will share space with the last snapshot helps only then, except on a file
// system where it shares the blocks of the live files from the start: there a
// full disk must not keep a snapshot from being taken that takes next to nothing.
func (s *Store) estimate(src Sources, o TakeOptions) (int64, error) {
	size := func(path string) int64 {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
		return 0
	}
	clones := o.Share.reflinks() && s.clonesFrom(filepath.Dir(resolved(src.DB)))
	db := resolved(src.DB)
	// The -wal is copied, and then its pages go into the copy of the database.
	sum := 2*size(db+"-wal") + size(src.Registry)
	if !clones {
		sum += size(db)
	}
	if !o.Full || src.Chroma == "" {
		return sum, nil
	}
	clones = o.Share.reflinks() && s.clonesFrom(resolved(src.Chroma))
	err := filepath.WalkDir(resolved(src.Chroma), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && filepath.Base(path) == "lost+found" {
			return nil // Chroma removed it meanwhile, or it is fsck's
		}
		// A live database is copied page by page.
		if err == nil && entry.Type().IsRegular() && (!clones || filepath.Ext(path) == ".sqlite3") {
			sum += size(path)
		}
		return err
	})
	return sum, err
}

// clonesFrom reports whether files in dir can be cloned into staging/. It tries
// that with files of ours: closing a live database would drop the locks that
// this process has on it. Between two subvolumes of one btrfs it would work, but
// they do not show to be of one; then a whole copy is counted.
func (s *Store) clonesFrom(dir string) bool {
	var here, there unix.Statfs_t
	if unix.Statfs(s.staging(), &here) != nil || unix.Statfs(dir, &there) != nil || here.Fsid != there.Fsid ||
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
