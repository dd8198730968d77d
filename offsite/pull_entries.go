package offsite

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// makeEntries creates every directory, file (at its final size, all zeros) and
// the two documents. Links are made last, so that nothing is written through one.
func makeEntries(root *os.Root, m *Manifest) error {
	for i := range m.Files {
		f := &m.Files[i]
		name := filepath.FromSlash(f.Path)
		parent := name
		if f.Type != snapshot.TypeDir {
			parent = filepath.Dir(name)
		}
		if err := root.MkdirAll(parent, 0o700); err != nil {
			return err
		}
		if f.Type != snapshot.TypeFile {
			continue
		}
		out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(out.Truncate(f.Size), out.Close()); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{snapshot.MetadataFile: m.Metadata, snapshot.ManifestFile: m.Atobackupd} {
		if text == "" {
			continue
		}
		if err := root.WriteFile(name, []byte(text), 0o640); err != nil {
			return err
		}
	}
	return nil
}

// finishEntries makes the links and sets owners, modes and times: of what lies
// inside a directory before the directory itself, whose times and permissions
// the work inside would change or forbid. Then everything is made durable by one
// flush of the file system: 100,000 small ones would take minutes.
func finishEntries(root *os.Root, m *Manifest) error {
	order := make([]*FileEntry, len(m.Files))
	for i := range m.Files {
		order[i] = &m.Files[i]
	}
	slices.SortFunc(order, func(a, b *FileEntry) int { return cmp.Compare(b.Path, a.Path) })
	for _, f := range order {
		if err := finishEntry(root, f); err != nil {
			return err
		}
	}
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	if err := fsx.Announce(fsx.OpSync, top.Name()); err != nil {
		return err
	}
	return unix.Syncfs(int(top.Fd()))
}

func finishEntry(root *os.Root, f *FileEntry) error {
	name := filepath.FromSlash(f.Path)
	if f.Type == snapshot.TypeSymlink {
		if err := root.Symlink(f.Target, name); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 {
		if err := root.Lchown(name, f.UID, f.GID); err != nil {
			return err
		}
	}
	if f.Type == snapshot.TypeSymlink {
		return nil
	}
	if err := root.Chmod(name, fileMode(f.Mode)); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, f.MTime)
}

// fileMode turns chmod(2)'s bits into Go's.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}
