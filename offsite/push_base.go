package offsite

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/atocore/atobackupd/internal/fsx"
)

// baseDir keeps the files that a vault's base pages came from, as hard links:
// <dir>/<PUSH>/<path>. They cost no space while the snapshot lives, and are
// what changed pages are XORed with. Nothing is believed of them: each page is
// checked against the digest in the map before it is used. They lie in
// backup.dir, which is private: a path to them is good enough.
type baseDir string

func (d baseDir) path(link PushID, name string) string {
	return filepath.Join(string(d), string(link), filepath.FromSlash(name))
}

// has reports whether the base file of an entry is there.
func (d baseDir) has(f *mappedFile) bool {
	info, err := os.Lstat(d.path(f.Link, f.Path))
	return f.Link != "" && err == nil && info.Mode().IsRegular()
}

// keep links a file of a snapshot into the directory of a push. Where a link
// cannot be made (another file system, a file of somebody else's under
// protected_hardlinks, too many links) it is a copy.
func (d baseDir) keep(ctx context.Context, push PushID, source, name string) error {
	to, err := d.makeRoom(push, name)
	if err != nil {
		return err
	}
	if err := fsx.Announce(fsx.OpLink, to); err != nil {
		return err
	}
	if os.Link(source, to) == nil {
		return nil
	}
	_, err = fsx.CopyFile(ctx, to, source, 0o400, true)
	return err
}

// copy makes a base file that is a copy of a snapshot's, and opens it for changes.
func (d baseDir) copy(ctx context.Context, push PushID, source, name string) (*os.File, error) {
	to, err := d.makeRoom(push, name)
	if err != nil {
		return nil, err
	}
	if _, err := fsx.CopyFile(ctx, to, source, 0o600, true); err != nil {
		return nil, err
	}
	return os.OpenFile(to, os.O_RDWR|syscall.O_NOFOLLOW, 0)
}

// makeRoom makes the directory of a base file and removes an earlier one.
func (d baseDir) makeRoom(push PushID, name string) (path string, err error) {
	path = d.path(push, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, nil
}

// open opens a base file for reading.
func (d baseDir) open(push PushID, name string) (*os.File, error) {
	return os.OpenFile(d.path(push, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// sweep removes the directories of pushes that no entry needs any more.
func (d baseDir) sweep(files []mappedFile) error {
	needed := make(map[string]bool)
	for i := range files {
		needed[string(files[i].Link)] = true
	}
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := PushID(e.Name()).Stamp(); ok && !needed[e.Name()] {
			if err := fsx.RemoveAll(filepath.Join(string(d), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// baseReader reads base pages. It keeps the last file open: pages come file by
// file.
type baseReader struct {
	dir    baseDir
	hasher *pageHasher
	name   string
	file   *os.File
	page   [PageSize]byte
}

// read returns the base page of an entry, or nil when it is not what the map
// says: then it must not be used, for a patch against a rotten page returns a
// wrong answer later. Rotten is one that could be read, and is another.
func (b *baseReader) read(f *mappedFile, page int64, want pageDigest) (data []byte, rotten bool) {
	name := b.dir.path(f.Link, f.Path)
	if b.name != name {
		b.Close()
		b.name = name
		b.file, _ = b.dir.open(f.Link, f.Path)
	}
	if b.file == nil {
		return nil, false
	}
	n, err := b.file.ReadAt(b.page[:], page*PageSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, true
	}
	clear(b.page[n:])
	if b.hasher.digest(b.page[:]) != want {
		return nil, true
	}
	return b.page[:], false
}

// Close closes the file that is open.
func (b *baseReader) Close() {
	if b.file != nil {
		b.file.Close()
	}
	b.file, b.name = nil, ""
}
