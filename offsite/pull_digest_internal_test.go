package offsite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Pages well behind the digest leave the page cache, those that come next stay, and
// all can be read again.
func TestFreePages(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const all = freeBehind + 2*freeStep
	for page := int64(0); page < all; page += chunkPages {
		if _, err := f.WriteAt(make([]byte, chunkPages*PageSize), page*PageSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	var d fileDigest
	if d.free(f, freeBehind+freeStep-1); d.freed != 0 {
		t.Errorf("freed up to page %d already", d.freed)
	}
	d.free(f, freeBehind+freeStep)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		t.Fatal(err)
	}
	inMemory := fs.Type == unix.TMPFS_MAGIC
	for page, want := range map[int64]bool{0: inMemory, freeStep - 1: inMemory, freeStep: true, all - 1: true} {
		if got := cached(t, f, page); got != want {
			t.Errorf("page %d of %d is cached: %t, want %t", page, all, got, want)
		}
	}
	if n, err := f.ReadAt(make([]byte, PageSize), 0); n != PageSize {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

// cached reports whether a page can be read without the disk.
func cached(t *testing.T, f *os.File, page int64) bool {
	t.Helper()
	var buf [PageSize]byte
	_, err := unix.Preadv2(int(f.Fd()), [][]byte{buf[:]}, page*PageSize, unix.RWF_NOWAIT)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal(err)
	}
	return !errors.Is(err, unix.EAGAIN)
}
