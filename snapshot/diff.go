package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// Contents is what a state of the store is compared by: a snapshot's, or that of
// the live store.
type Contents struct {
	Tables    map[string]int64 // rows by table; nil where there is no database
	Registry  map[string]any   // top-level values; nil where there is no registry
	Files     []File           // of the live store only Chroma's, without digests
	HasChroma bool
	Live      bool
}

// Contents reads what a snapshot is compared by. Of one that AtoCore's own tools
// made, which has no manifest, the database is read and every file digested.
func (s *Snapshot) Contents(ctx context.Context) (c Contents, err error) {
	if c.Files, err = s.Inventory(ctx); err != nil {
		return c, err
	}
	content := s.Content()
	c.HasChroma = content.ChromaIncluded
	if content.RegistryIncluded {
		data, err := fsx.ReadRegular(filepath.Join(s.Path, content.Registry), maxRegistry)
		if err != nil {
			return c, err
		}
		c.Registry = topLevel(data)
	}
	switch {
	case s.Manifest != nil && s.Manifest.DB != nil:
		c.Tables = s.Manifest.DB.Tables
	case content.DBIncluded:
		info, err := sqlite.Inspect(ctx, filepath.Join(s.Path, content.DB))
		if err != nil {
			return c, err
		}
		c.Tables = info.Tables
	}
	return c, nil
}

// LiveContents reads what the live store is compared by: the rows of every table,
// waiting for a lock for busy at most; the registry; and the names, sizes and
// times of Chroma's files. All of it may be moving. What is not configured is left
// out.
func LiveContents(ctx context.Context, src Sources, owners tree.Owners, busy time.Duration) (c Contents, err error) {
	c.Live = true
	if src.DB != "" {
		live, err := sqlite.OpenLive(src.DB, owners)
		if err != nil {
			return c, err
		}
		defer live.Close()
		if c.Tables, err = sqlite.CountLive(ctx, live, busy); err != nil {
			return c, fmt.Errorf("%s: %w", src.DB, err)
		}
	}
	if src.Registry != "" {
		p, err := openPlace(src.Registry, owners)
		var data []byte
		if err == nil {
			defer p.dir.Close()
			data, err = readRegistry(ctx, p)
		}
		if err == nil {
			c.Registry = topLevel(data)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	if src.Chroma == "" {
		return c, nil
	}
	dir, err := tree.Open(src.Chroma, owners)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer dir.Close()
	c.HasChroma = true
	err = dir.Walk(true, func(n tree.Node, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err == nil && n.IsRegular() {
			c.Files = append(
				c.Files,
				File{Path: path.Join(ChromaDir, n.Path), Type: TypeFile, Size: n.Size, MTime: n.MTime},
			)
		}
		return err
	})
	return c, err
}

// maxCompared is the size of a registry up to which it is compared entry by entry:
// a thousand times a large one's.
const maxCompared = 4 << 20

// topLevel returns the values of a JSON object; what only Python can read is an
// empty one, and what is too large its digest.
func topLevel(data []byte) map[string]any {
	top := map[string]any{}
	if len(data) > maxCompared {
		top["the whole registry"] = sha256.Sum256(data)
		return top
	}
	_ = json.Unmarshal(data, &top)
	return top
}

// Difference is what differs between two states of the store, each list in the
// order of its names.
type Difference struct {
	Tables   []TableChange `json:"tables"`
	Registry []EntryChange `json:"registry"`
	Files    []FileChange  `json:"files"`
	// ChromaCompared is false where only one of the two holds Chroma, whose files
	// are then left out.
	ChromaCompared bool `json:"chroma_compared"`
}

// TableChange is a table whose rows differ in number; null where it is missing.
type TableChange struct {
	Name string `json:"name"`
	From *int64 `json:"from"`
	To   *int64 `json:"to"`
}

// EntryChange is an entry of the registry, such as a project, that was added,
// removed or changed.
type EntryChange struct {
	Key    string `json:"key"`  // the top-level key, e.g. "projects"
	Name   string `json:"name"` // the entry's own id or name; "" for a plain value
	Change string `json:"change"`
}

// FileChange is a file that was added, removed or changed. Sizes are null where
// it is missing.
type FileChange struct {
	Path      string `json:"path"`
	Change    string `json:"change"`
	FromBytes *int64 `json:"from_bytes"`
	ToBytes   *int64 `json:"to_bytes"`
}

// The values of EntryChange.Change and FileChange.Change.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Diff compares two states. Files of snapshots are compared by their digests,
// with those of the live store by size and time; the live database and registry
// are compared by what is in them alone.
func Diff(from, to Contents) Difference {
	d := Difference{
		Tables: []TableChange{}, Registry: []EntryChange{}, Files: []FileChange{},
		ChromaCompared: from.HasChroma && to.HasChroma,
	}
	for _, name := range keysOf(from.Tables, to.Tables) {
		if a, b := find(from.Tables, name), find(to.Tables, name); a == nil || b == nil || *a != *b {
			d.Tables = append(d.Tables, TableChange{Name: name, From: a, To: b})
		}
	}
	for _, key := range keysOf(from.Registry, to.Registry) {
		a, b := entriesOf(from.Registry[key]), entriesOf(to.Registry[key])
		for _, name := range keysOf(a, b) {
			if change := changeOf(
				find(a, name),
				find(b, name),
				func(x, y any) bool { return reflect.DeepEqual(x, y) },
			); change != "" {
				d.Registry = append(d.Registry, EntryChange{Key: key, Name: name, Change: change})
			}
		}
	}
	live := from.Live || to.Live
	a, b := filesOf(from, d.ChromaCompared, live), filesOf(to, d.ChromaCompared, live)
	for _, name := range keysOf(a, b) {
		x, y := find(a, name), find(b, name)
		if change := changeOf(x, y, func(x, y File) bool { return sameFile(x, y, live) }); change != "" {
			d.Files = append(
				d.Files,
				FileChange{Path: name, Change: change, FromBytes: bytesOf(x), ToBytes: bytesOf(y)},
			)
		}
	}
	return d
}

// Empty reports whether nothing differs, as far as it was compared.
func (d Difference) Empty() bool { return len(d.Tables)+len(d.Registry)+len(d.Files) == 0 }

func changeOf[V any](a, b *V, same func(a, b V) bool) string {
	switch {
	case a == nil:
		return Added
	case b == nil:
		return Removed
	case !same(*a, *b):
		return Changed
	}
	return ""
}

// entriesOf names the entries of a value: those of an object by their keys, those
// of a list by the id or name that they carry, else by their place; a plain value
// is one entry without a name.
func entriesOf(v any) map[string]any {
	all := map[string]any{}
	switch v := v.(type) {
	case nil:
	case map[string]any:
		return v
	case []any:
		for i, e := range v {
			name := fmt.Sprintf("#%d", i+1)
			if object, ok := e.(map[string]any); ok {
				for _, key := range []string{"id", "project_id", "name", "slug"} {
					if s, ok := object[key].(string); ok && s != "" {
						name = s
						break
					}
				}
			} else if s, ok := e.(string); ok {
				name = s
			}
			all[name] = e
		}
	default:
		all[""] = v
	}
	return all
}

func filesOf(c Contents, chroma, live bool) map[string]File {
	all := map[string]File{}
	for _, f := range c.Files {
		inChroma := strings.HasPrefix(f.Path, ChromaDir+"/")
		if f.Type == TypeDir || f.Path == MetadataFile || inChroma && !chroma ||
			live && (!inChroma || f.Type != TypeFile) {
			continue
		}
		all[f.Path] = f
	}
	return all
}

func sameFile(a, b File, live bool) bool {
	if live {
		return a.Size == b.Size && a.MTime.Equal(b.MTime)
	}
	return a.Type == b.Type && a.Size == b.Size && a.SHA256 == b.SHA256 && a.Target == b.Target
}

func bytesOf(f *File) *int64 {
	if f == nil {
		return nil
	}
	return &f.Size
}

func find[V any](m map[string]V, key string) *V {
	if v, ok := m[key]; ok {
		return &v
	}
	return nil
}

// keysOf returns the keys of both maps, sorted, each once.
func keysOf[V any](a, b map[string]V) []string {
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, m := range []map[string]V{a, b} {
			for key := range maps.Keys(m) {
				if !yield(key) {
					return
				}
			}
		}
	}))
}
