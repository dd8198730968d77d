package app

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// newRegistered is an installation with a registry, open, and one snapshot of it.
func newRegistered(t *testing.T) (*house, *App, Taken) {
	t.Helper()
	h := newHouse(t, "")
	h.write("data/registry.json", `{"projects": [{"id": "p01"}], "version": 1}`)
	a := h.open()
	t.Cleanup(func() { a.Close() })
	a.Config.AtoCore.RegistryPath = h.path("data/registry.json")
	return h, a, h.backup(a)
}

// ls says what is in a snapshot, ours or AtoCore's, by stamp or "latest".
func TestFiles(t *testing.T) {
	t.Parallel()
	h, a, taken := newRegistered(t)
	theirs := h.madeByAtoCore(time.Now().Add(-time.Hour), false)
	for _, test := range []struct {
		name  string
		stamp snapshot.Stamp
		files []string
	}{
		{string(taken.Stamp), taken.Stamp, []string{snapshot.DBFile, snapshot.RegistryFile}},
		{"latest", taken.Stamp, []string{snapshot.DBFile, snapshot.RegistryFile}},
		{string(theirs), theirs, []string{"db/a.db"}},
	} {
		doc, err := a.Files(t.Context(), test.name)
		if err != nil || doc.Stamp != test.stamp {
			t.Errorf("%s: %+v, %v", test.name, doc, err)
		}
		for _, want := range test.files {
			i := slices.IndexFunc(doc.Files, func(f snapshot.File) bool { return f.Path == want })
			if i < 0 || doc.Files[i].Size == 0 || len(doc.Files[i].SHA256) != 64 {
				t.Errorf("%s: %s is not as it should be in %+v", test.name, want, doc.Files)
			}
		}
	}
	for name, kind := range map[string]failure.Kind{"20200101T000000Z": failure.NotFound, "x": failure.Usage} {
		if _, err := a.Files(t.Context(), name); failure.KindOf(err) != kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// dump takes the name of an artifact or the path of a file inside, and nothing
// else: no directory, and nothing outside.
func TestDump(t *testing.T) {
	t.Parallel()
	h, a, taken := newRegistered(t)
	theirs := string(h.madeByAtoCore(time.Now().Add(-time.Hour), false))
	h.write("secret", "secret")
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	registry, database := read(h.path("data/registry.json")), read(filepath.Join(taken.Path, snapshot.DBFile))
	for _, test := range []struct {
		name, of, what, content string
		kind                    failure.Kind
		text                    string
	}{
		{"the registry", "latest", "registry", registry, 0, ""},
		{"the database", "latest", "db", database, 0, ""},
		{"a path", string(taken.Stamp), snapshot.RegistryFile, registry, 0, ""},
		{"a path with a dot", "latest", "./" + snapshot.RegistryFile, registry, 0, ""},
		{"a path that is not clean", "latest", "config/../" + snapshot.RegistryFile, registry, 0, ""},
		{"the database that AtoCore saved", theirs, "db", read(h.path("backups/snapshots/" + theirs + "/db/a.db")), 0,
			""},
		{"a directory", "latest", "config", "", failure.Usage, "restore"},
		{"what is not there", "latest", "config/other.json", "", failure.NotFound, "atobackupd ls"},
		{"a registry that was not saved", theirs, "registry", "", failure.NotFound, "it has no file"},
		{"what lies outside", "latest", "../../../secret", "", failure.NotFound, "it has no file"},
		{"an absolute path", "latest", h.path("secret"), "", failure.NotFound, "it has no file"},
		{"no snapshot", "20200101T000000Z", "db", "", failure.NotFound, "20200101T000000Z"},
	} {
		var out bytes.Buffer
		f, _, err := a.Dump(t.Context(), test.of, test.what, &out)
		if test.text == "" && (err != nil || out.String() != test.content || f.Size != int64(len(test.content))) {
			t.Errorf("%s: %d bytes of %d, %+v, %v", test.name, out.Len(), len(test.content), f, err)
		}
		if test.text != "" && (failure.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) ||
			out.Len() > 0) {
			t.Errorf("%s: %d bytes, %v", test.name, out.Len(), err)
		}
	}
}

// What is not what was stored is never written out, not even its beginning.
func TestDumpOfADamagedFile(t *testing.T) {
	t.Parallel()
	_, a, taken := newRegistered(t)
	rot(t, filepath.Join(taken.Path, snapshot.RegistryFile))
	var out bytes.Buffer
	_, stamp, err := a.Dump(t.Context(), string(taken.Stamp), "registry", &out)
	if failure.KindOf(err) != failure.Invalid || !strings.Contains(err.Error(), "checksum_mismatch") ||
		!strings.Contains(failure.HintOf(err), "vault dump") || out.Len() != 0 || stamp != taken.Stamp {
		t.Errorf("%d bytes of %s, %v", out.Len(), stamp, err)
	}
	// Where a link stands in the place of a file, it is not followed.
	path := filepath.Join(taken.Path, snapshot.RegistryFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Dump(t.Context(), string(taken.Stamp), "registry", &out); err == nil || out.Len() != 0 {
		t.Errorf("a link was followed: %q", out.String())
	}
}

// A read that takes long ends with its context.
func TestDumpIsInterrupted(t *testing.T) {
	t.Parallel()
	_, a, _ := newRegistered(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if _, _, err := a.Dump(ctx, "latest", "db", &out); failure.KindOf(err) != failure.Interrupted || out.Len() != 0 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

// diff compares two snapshots, or one with the live store.
func TestDiff(t *testing.T) {
	t.Parallel()
	h, a, before := newRegistered(t)
	db, err := sql.Open("sqlite", h.path("data/a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO t VALUES (2); CREATE TABLE u (x)"); err != nil {
		t.Fatal(err)
	}
	h.write("data/registry.json", `{"projects": [{"id": "p01"}, {"id": "p02"}], "version": 1}`)
	after := h.backup(a)
	if _, err := db.Exec("DROP TABLE u; DELETE FROM t"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, from, to string
		tables         string // name:from>to
		registry       string
	}{
		{"forwards", string(before.Stamp), string(after.Stamp), "t:1>2 u:->0", "projects/p02 added"},
		{"backwards", string(after.Stamp), string(before.Stamp), "t:2>1 u:0>-", "projects/p02 removed"},
		{"with itself", string(after.Stamp), "latest", "", ""},
		{"with what is live", "latest", Live, "t:2>0 u:0>-", ""},
		{"of what is live", Live, string(before.Stamp), "t:0>1", "projects/p02 removed"},
	} {
		doc, err := a.Diff(t.Context(), test.from, test.to)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		for _, side := range [][2]string{{test.from, doc.From}, {test.to, doc.To}} {
			want := side[0]
			if want == "latest" {
				want = string(after.Stamp)
			}
			if side[1] != want {
				t.Errorf("%s: %s is called %s", test.name, side[0], side[1])
			}
		}
		rows := func(n *int64) string {
			if n == nil {
				return "-"
			}
			return string(rune('0' + *n))
		}
		var tables, entries []string
		for _, c := range doc.Tables {
			tables = append(tables, c.Name+":"+rows(c.From)+">"+rows(c.To))
		}
		for _, c := range doc.Registry {
			entries = append(entries, c.Key+"/"+c.Name+" "+c.Change)
		}
		if got := strings.Join(tables, " "); got != test.tables {
			t.Errorf("%s: tables %q, want %q", test.name, got, test.tables)
		}
		if got := strings.Join(entries, " "); got != test.registry {
			t.Errorf("%s: registry %q, want %q", test.name, got, test.registry)
		}
	}
	for _, test := range []struct {
		name, from, to, text string
		harm                 func()
	}{
		{"no such snapshot", "20200101T000000Z", Live, "20200101T000000Z", func() {}},
		{"no such second one", "latest", "20200101T000000Z", "20200101T000000Z", func() {}},
		{"a live database that is gone", "latest", Live, "diff: live", func() { h.move("data/a.db", "data/b.db") }},
	} {
		test.harm()
		if _, err := a.Diff(t.Context(), test.from, test.to); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// While a snapshot is read it is held, and let go of afterwards.
func TestHoldNamed(t *testing.T) {
	t.Parallel()
	_, a, taken := newRegistered(t)
	snap, release, err := a.holdNamed(t.Context(), "latest")
	if err != nil || snap.Stamp != taken.Stamp {
		t.Fatalf("%+v, %v", snap, err)
	}
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if plan := a.planned(list); plan[0].InUse == "" {
		t.Error("it is not held")
	}
	release()
	if plan := a.planned(list); plan[0].InUse != "" {
		t.Error("it is held still")
	}
}
