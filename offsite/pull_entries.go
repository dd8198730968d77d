package offsite

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
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
func finishEntries(root *os.Root, m *Manifest, o owner) error {
	order := make([]*FileEntry, len(m.Files))
	for i := range m.Files {
		order[i] = &m.Files[i]
	}
	slices.SortFunc(order, func(a, b *FileEntry) int { return cmp.Compare(b.Path, a.Path) })
	for _, f := range order {
		if err := finishEntry(root, f, o); err != nil {
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

func finishEntry(root *os.Root, f *FileEntry, o owner) error {
	name := filepath.FromSlash(f.Path)
	if f.Type == snapshot.TypeSymlink {
		if err := root.Symlink(f.Target, name); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 {
		if err := root.Lchown(name, cmp.Or(f.UID, o.uid), cmp.Or(f.GID, o.gid)); err != nil {
			return err
		}
	}
	if f.Type == snapshot.TypeSymlink {
		return nil
	}
	// Permissions only: no bit gives whoever runs a file the rights of its owner.
	if err := root.Chmod(name, fs.FileMode(f.Mode&0o777)); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, f.MTime)
}

// owner is whose the directory is that a snapshot is laid into. What a manifest
// says is root's becomes its owner's: nothing becomes root's that does not lie
// among root's files.
type owner struct{ uid, gid int }

func ownerOf(dir string) (o owner, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return o, err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		o = owner{int(s.Uid), int(s.Gid)}
	}
	return o, nil
}
