package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A source that shrank is published, suspect, and names its figures.
func TestSuspect(t *testing.T) {
	fill := "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i+1 FROM n WHERE i < 209) INSERT INTO memories " +
		"SELECT i, 'x', 1 FROM n"
	for _, test := range []struct {
		name   string
		shrink func(t *testing.T, in *installation)
		want   []string
		text   string
	}{
		{"nothing", func(t *testing.T, in *installation) {}, nil, ""},
		{
			"half of a table stays",
			func(t *testing.T, in *installation) { execDB(t, in.src.DB, "DELETE FROM memories WHERE id > 108") },
			nil,
			"",
		},
		{"less than half stays", func(t *testing.T, in *installation) {
			execDB(t, in.src.DB, "DELETE FROM memories WHERE id > 20")
		},
			[]string{"db_shrunk"}, "table memories had 203 rows and has 14"},
		{"a table is empty", func(t *testing.T, in *installation) {
			execDB(t, in.src.DB, "DELETE FROM memories", "DELETE FROM source_documents")
		},
			[]string{"db_table_emptied"}, "table source_documents had 2 rows and has none"},
		{"a table is gone", func(t *testing.T, in *installation) { execDB(t, in.src.DB, "DROP TABLE memories") },
			[]string{"db_table_emptied"}, "table memories had 203 rows"},
		{
			"no registry",
			func(t *testing.T, in *installation) { must(t, os.Remove(in.src.Registry)) },
			[]string{"registry_shrunk"},
			"now there is none",
		},
		{"an empty registry", func(t *testing.T, in *installation) {
			must(t, os.WriteFile(in.src.Registry, []byte(`{"projects": []}`), 0o600))
		},
			[]string{"registry_shrunk"}, `"projects" of the registry had 2 entries`},
		{"chroma.sqlite3 is gone", func(t *testing.T, in *installation) {
			must(t, os.RemoveAll(in.src.Chroma))
			must(t, os.Mkdir(in.src.Chroma, 0o755))
		},
			[]string{"chroma_shrunk", "chroma_unverified"}, "its records and now they cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := installFull(t)
			must(t, os.WriteFile(in.src.Registry, []byte(`{"projects": [1, 2], "version": 1}`), 0o600))
			execDB(t, in.src.DB, fill)
			first := in.mustTake(t, TakeOptions{Full: true})
			if len(first.Suspicions()) > 0 {
				t.Fatalf("the first one is suspect: %q", first.Suspicions())
			}
			test.shrink(t, in)
			snap := in.mustTake(t, TakeOptions{Full: true})
			if !snap.IsValid() || !slices.Equal(snap.Suspicions(), test.want) {
				t.Errorf("valid %v, suspect %q, want %q", snap.IsValid(), snap.Suspicions(), test.want)
			}
			if text := strings.Join(snap.SuspicionTexts(), "; "); !strings.Contains(text, test.text) {
				t.Errorf("%q does not say %q", text, test.text)
			}
			if len(test.want) == 0 {
				return
			}
			// It is compared with what was well before, until somebody accepts it.
			again := in.mustTake(t, TakeOptions{Full: true})
			if !slices.Equal(again.Suspicions(), test.want) {
				t.Errorf("the next one is suspect of %q", again.Suspicions())
			}
			must(t, in.store.Accept(again.Stamp, time.Now()))
			accepted, err := in.store.Get(again.Stamp)
			must(t, err)
			if len(accepted.Suspicions()) > 0 || accepted.Manifest.AcceptedAt == nil {
				t.Errorf("accepted, and still suspect of %q", accepted.Suspicions())
			}
		})
	}
}

// The listing believes no manifest whose files are not there.
func TestListLooksAtFiles(t *testing.T) {
	for name, harm := range map[string]func(string) error{
		"file_missing":       os.Remove,
		"file_size_mismatch": func(path string) error { return os.Truncate(path, 4096) },
		"file_missing: db/atocore.db is now a dir": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o755)
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			snap := in.mustTake(t, TakeOptions{})
			must(t, harm(filepath.Join(snap.Path, DBFile)))
			list, _, err := in.store.List(time.Now())
			must(t, err)
			if len(list) != 1 || list[0].IsValid() || !strings.HasPrefix(strings.Join(list[0].Errors, " "), name) {
				t.Errorf("valid %v: %q", list[0].IsValid(), list[0].Errors)
			}
			if Newest(list, time.Now(), false) != nil {
				t.Error("it is still the newest that counts")
			}
		})
	}
}

// What Python reads is a registry.
func TestCheckJSON(t *testing.T) {
	deep := strings.Repeat("[", 20000) + strings.Repeat("]", 20000)
	for text, want := range map[string]bool{
		`{}`: true, `{"a": NaN, "b": [Infinity, -Infinity], "c": 1e999}`: true, `{"a": 1, "a": 2}`: true, deep: true,
		"{\"a\": \"\xff\"}": false, "{\"a\": \"\xed\xa0\x80\"}": false, "\ufeff{}": false, `{"ü": "\ud800"}`: true,
		`{"a": "NaN \\" }`: true, ``: false, `{`: false, `-NaN`: false, `1NaN`: false, `{NaN: 1}`: false,
		`nan`: false, `{"a": 1} x`: false,
	} {
		if err := checkJSON([]byte(text)); (err == nil) != want {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}
