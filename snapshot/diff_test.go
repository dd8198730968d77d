package snapshot

import (
	"slices"
	"testing"
	"time"
)

func TestDiff(t *testing.T) {
	at := time.Date(2026, 4, 7, 6, 0, 0, 0, time.UTC)
	file := func(path string, size int64, sum string) File {
		return File{Path: path, Type: TypeFile, Size: size, SHA256: sum, MTime: at}
	}
	for _, c := range []struct {
		name     string
		from, to Contents
		tables   []string
		registry []EntryChange
		files    []string // path, change
		chroma   bool
	}{
		{
			name:   "rows of tables, new ones and old ones",
			from:   Contents{Tables: map[string]int64{"a": 1, "b": 2, "gone": 0}},
			to:     Contents{Tables: map[string]int64{"a": 1, "b": 3, "new": 0}},
			tables: []string{"b", "gone", "new"},
		},
		{
			name:   "a database on one side only",
			from:   Contents{},
			to:     Contents{Tables: map[string]int64{"a": 1}},
			tables: []string{"a"},
		},
		{
			name: "entries of lists by id, of objects by key, plain values",
			from: Contents{
				Registry: topLevel(
					[]byte(
						`{"projects": [{"id": "p1", "n": 1}, {"id": "p2"}], "by": {"k": 1}, "v": 1, "same": [1, 2]}`,
					),
				),
			},
			to: Contents{
				Registry: topLevel([]byte(
					`{"projects": [{"id": "p2"}, {"id": "p1", "n": 2}, "p3"], "by": {"l": 1}, "v": 2, "same": [1, 2]}`,
				)),
			},
			registry: []EntryChange{{"by", "k", Removed}, {"by", "l", Added}, {"projects", "p1", Changed}, {
				"projects",
				"p3",
				Added,
			},
				{"v", "", Changed}},
		},
		{
			name: "files by digest; directories, our own document and times mean nothing",
			from: Contents{
				Files: []File{
					file("db/x", 1, "aa"),
					file("db/y", 1, "aa"),
					file(MetadataFile, 1, "aa"),
					{Path: "db", Type: TypeDir},
				},
			},
			to: Contents{
				Files: []File{
					file("db/x", 1, "bb"),
					{Path: "db/z", Type: TypeFile, SHA256: "cc"},
					file(MetadataFile, 2, "bb"),
				},
			},
			files: []string{"db/x", Changed, "db/y", Removed, "db/z", Added},
		},
		{
			name: "Chroma on one side only is not compared",
			from: Contents{HasChroma: true, Files: []File{file("chroma/x", 1, "aa")}},
			to:   Contents{},
		},
		{
			name: "the live store: Chroma by size and time, no other file",
			from: Contents{HasChroma: true, Files: []File{file("chroma/same", 1, "aa"), file(
				"chroma/grown",
				1,
				"aa",
			), file("db/x", 1, "aa"),
				{Path: "chroma/link", Type: TypeSymlink, Target: "same"}}},
			to: Contents{HasChroma: true, Live: true, Files: []File{{
				Path:  "chroma/same",
				Type:  TypeFile,
				Size:  1,
				MTime: at,
			},
				{Path: "chroma/grown", Type: TypeFile, Size: 2, MTime: at}, {Path: "chroma/new", Type: TypeFile}}},
			files:  []string{"chroma/grown", Changed, "chroma/new", Added},
			chroma: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Diff(c.from, c.to)
			var tables, files []string
			for _, x := range d.Tables {
				tables = append(tables, x.Name)
			}
			for _, x := range d.Files {
				files = append(files, x.Path, x.Change)
			}
			if !slices.Equal(tables, c.tables) || !slices.Equal(files, c.files) ||
				!slices.Equal(d.Registry, c.registry) ||
				d.ChromaCompared != c.chroma {
				t.Errorf("tables %q, registry %v, files %q, chroma %v", tables, d.Registry, files, d.ChromaCompared)
			}
			if d.Empty() != (len(c.tables)+len(c.files)+len(c.registry) == 0) {
				t.Errorf("Empty is %v", d.Empty())
			}
			if same := Diff(c.from, c.from); !same.Empty() {
				t.Errorf("it differs from itself: %+v", same)
			}
		})
	}
}
