package offsite

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// makeEntries creates every directory, file (at its final size, all zeros) and
// the two documents. Links are made last, so that nothing is written through one.
func makeEntries(root *tree.Dir, m *Manifest) error {
	dirs := newestDir{root: root}
	defer dirs.close()
	for i := range m.Files {
		f := &m.Files[i]
		parent, base := splitPath(f.Path)
		if f.Type == snapshot.TypeDir {
			parent = f.Path
		}
		in, err := dirs.make(parent)
		if err != nil {
			return err
		}
		if f.Type != snapshot.TypeFile {
			continue
		}
		out, err := in.Create(base, 0o600)
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
		out, err := root.Create(name, 0o640)
		if err != nil {
			return err
		}
		_, err = out.WriteString(text)
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
	return nil
}

func splitPath(name string) (parent, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}

// newestDir keeps the directory open that was asked for last: neighbours in a
// manifest mostly lie in one, and a snapshot may have 100,000 files.
type newestDir struct {
	root *tree.Dir
	name string
	dir  *tree.Dir
}

// make opens a directory below the root, and makes it, and those above it, where
// they are missing. Nothing is durable before the file system is flushed.
func (n *newestDir) make(name string) (*tree.Dir, error) {
	if n.dir != nil && n.name == name {
		return n.dir, nil
	}
	n.close()
	at, err := n.root.OpenDir(".")
	if err != nil {
		return nil, err
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == "." {
			continue
		}
		next, err := at.OpenDir(element)
		if errors.Is(err, fs.ErrNotExist) {
			next, err = at.Mkdir(element, 0o700)
		}
		at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	n.name, n.dir = name, at
	return at, nil
}

func (n *newestDir) close() {
	n.dir.Close()
	n.dir = nil
}

// finishEntries makes the links and sets owners, modes and times: of what lies
// inside a directory before the directory itself, whose times and permissions
// the work inside would change or forbid. Then everything is made durable by one
// flush of the file system: 100,000 small ones would take minutes.
//
// above is the directory that the snapshot lies in. What a manifest says is root's
// becomes its owner's: nothing becomes root's that does not lie among root's files.
func finishEntries(root *tree.Dir, m *Manifest, above tree.Attributes) error {
	order := make([]*FileEntry, len(m.Files))
	for i := range m.Files {
		order[i] = &m.Files[i]
	}
	slices.SortFunc(order, func(a, b *FileEntry) int { return cmp.Compare(b.Path, a.Path) })
	owners := os.Geteuid() == 0
	for _, f := range order {
		if f.Type == snapshot.TypeSymlink {
			if err := root.Symlink(f.Target, f.Path); err != nil {
				return err
			}
		}
		a := tree.Attributes{UID: f.UID, GID: f.GID, Mode: uint32(f.Mode), MTime: f.MTime}
		if err := root.SetAttributes(f.Path, a.Restorable(above), owners); err != nil {
			return err
		}
	}
	return root.SyncFileSystem()
}
