package snapshot

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// Writers, lock holders and takes that are killed are other processes.
type job struct {
	Store   string
	Sources Sources
	Full    bool
	Stamp   Stamp
}

func TestMain(m *testing.M) {
	all := map[string]forktest.Role{}
	for name, play := range roles {
		all[name] = forktest.JSON(play)
	}
	os.Exit(forktest.Main(m.Run, all))
}

var roles = map[string]func(job) error{
	"take": func(j job) error {
		store, err := Open(j.Store)
		if err != nil {
			return err
		}
		fsxtest.KillIfAsked()
		snap, err := store.Take(
			context.Background(),
			j.Sources,
			TakeOptions{Kind: Daily, Full: j.Full, Chroma: chroma.Options{OptimisticTries: 3}},
		)
		fmt.Println(snap.Stamp)
		return err
	},
	"delete": func(j job) error {
		store, err := Open(j.Store)
		if err != nil {
			return err
		}
		fsxtest.KillIfAsked()
		return store.Delete(j.Stamp)
	},
	"pin": func(j job) error {
		store, err := Open(j.Store)
		if err != nil {
			return err
		}
		fsxtest.KillIfAsked()
		return store.Pin(j.Stamp, true)
	},
	"hold": func(j job) error {
		store, err := Open(j.Store)
		if err != nil {
			return err
		}
		if _, err := store.LockShared(j.Stamp); err != nil {
			return err
		}
		return forktest.WaitForEnd("holding")
	},
	"lock": func(j job) error {
		store, err := Open(j.Store)
		if err != nil {
			return err
		}
		if _, err := store.Lock(context.Background(), "taking a daily snapshot", 0, nil); err != nil {
			return err
		}
		return forktest.WaitForEnd("locked")
	},
	"write": beWriter, // see writer_test.go
	"other mount": func(j job) error { // see preflight_test.go
		return takeAcrossMounts(j)
	},
	"sweep a mount": sweepAcrossMount, // see staging_test.go
}

func start(t testing.TB, role string, j job) *forktest.Child {
	t.Helper()
	return forktest.Start(t, forktest.Command(role, j))
}

// installation is AtoCore's live store and a backup directory for it.
type installation struct {
	dir   string
	src   Sources
	store *Store
}

const registryText = `{"projects": [{"id": "p05-interferometer"}]}` + "\n"

var schema = []string{
	"PRAGMA foreign_keys = OFF",
	"CREATE TABLE source_documents(id INTEGER PRIMARY KEY, title TEXT)",
	"CREATE TABLE memories(id INTEGER PRIMARY KEY, content TEXT, source INTEGER REFERENCES source_documents(id))",
	"PRAGMA user_version = 7",
	"INSERT INTO source_documents VALUES(1, 'one'), (2, 'two')",
	"INSERT INTO memories VALUES(1, 'a', 1), (2, 'b', 2), (3, 'c', 2)",
}

// install makes a live store in WAL mode, without Chroma.
func install(t testing.TB) *installation {
	t.Helper()
	in := &installation{dir: t.TempDir()}
	in.src = Sources{
		DB:       filepath.Join(in.dir, "data/db/atocore.db"),
		Registry: filepath.Join(in.dir, "config/project-registry.json"),
		Chroma:   filepath.Join(in.dir, "data/chroma"),
	}
	for _, dir := range []string{"data/db", "config"} {
		must(t, os.MkdirAll(filepath.Join(in.dir, dir), 0o755))
	}
	makeDB(t, in.src.DB, append([]string{"PRAGMA journal_mode = WAL"}, schema...)...)
	must(t, os.WriteFile(in.src.Registry, []byte(registryText), 0o644))
	var err error
	in.store, err = Open(filepath.Join(in.dir, "backups"))
	must(t, err)
	return in
}

// installFull is install with a Chroma directory that a real Chroma wrote.
func installFull(t testing.TB) *installation {
	t.Helper()
	in := install(t)
	unpackChroma(t, in.src.Chroma)
	return in
}

func (in *installation) take(o TakeOptions) (Snapshot, error) {
	if o.Kind == "" {
		o.Kind = Daily
	}
	o.Host, o.ToolVersion, o.Chroma.OptimisticTries = "dalidou", "1.2.3", 3
	return in.store.Take(context.Background(), in.src, o)
}

func (in *installation) mustTake(t testing.TB, o TakeOptions) Snapshot {
	t.Helper()
	snap, err := in.take(o)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func (in *installation) validate(t testing.TB, stamp Stamp) Result {
	t.Helper()
	result, err := in.store.Validate(
		context.Background(),
		stamp,
		ValidateOptions{RequiredTables: in.src.RequiredTables},
	)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// published returns the names in snapshots/ after checking that each is whole and
// valid, and that nothing of SQLite's lies anywhere.
func (in *installation) published(t testing.TB) []Stamp {
	t.Helper()
	list, warnings, err := in.store.List(time.Now())
	if err != nil || len(warnings) > 0 {
		t.Fatalf("list: %v, %q", err, warnings)
	}
	var stamps []Stamp
	for _, s := range list {
		if result := in.validate(t, s.Stamp); !result.Valid {
			t.Errorf("%s was published and is not valid: %q", s.Stamp, result.Errors)
		}
		stamps = append(stamps, s.Stamp)
	}
	in.noSidecars(t)
	return stamps
}

func (in *installation) noSidecars(t testing.TB) {
	t.Helper()
	for _, path := range strings.Split(fsxtest.Tree(t, in.store.Dir()), "\n") {
		for _, suffix := range []string{"-wal", "-shm", "-journal"} {
			if strings.HasSuffix(path, suffix) {
				t.Errorf("%s was left", path)
			}
		}
	}
}

func (in *installation) staged(t testing.TB) string {
	t.Helper()
	return strings.TrimPrefix(fsxtest.Tree(t, in.store.staging()), ".\n")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeDB makes a database. An empty file is one to SQLite.
func makeDB(t testing.TB, path string, statements ...string) {
	t.Helper()
	must(t, os.WriteFile(path, nil, 0o644))
	execDB(t, path, statements...)
}

// openLive opens a database as its application does.
func openLive(path string, busy time.Duration) (*sql.DB, error) {
	live, err := sqlite.OpenLive(path, tree.Trusted(""))
	if err != nil {
		return nil, err
	}
	defer live.Close()
	return live.OpenReadWrite(context.Background(), busy)
}

func execDB(t testing.TB, path string, statements ...string) {
	t.Helper()
	db, err := openLive(path, 5*time.Second)
	must(t, err)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	must(t, db.Close())
}

// countRows reads a stored database.
func countRows(t testing.TB, path, table string) (n int) {
	t.Helper()
	db, err := sqlite.OpenImmutable(path)
	must(t, err)
	defer db.Close()
	must(t, db.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// unpackChroma lays out a whole Chroma directory, an hour old.
func unpackChroma(t testing.TB, dir string) {
	t.Helper()
	f, err := os.Open("chroma/testdata/whole.tar.gz")
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	times, newest := map[string]time.Time{}, time.Time{}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		path := filepath.Join(dir, strings.TrimPrefix(h.Name, "whole"))
		if h.Typeflag == tar.TypeDir {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		data, err := io.ReadAll(archive)
		must(t, err)
		must(t, os.WriteFile(path, data, 0o644))
		times[path] = h.ModTime
		if h.ModTime.After(newest) {
			newest = h.ModTime
		}
	}
	shift := time.Until(newest) + time.Hour
	for path, mtime := range times {
		must(t, os.Chtimes(path, mtime.Add(-shift), mtime.Add(-shift)))
	}
}

// edit changes a file's bytes.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(data), 0o644))
}

// overwrite puts garbage into the middle of a file.
func overwrite(offset int, garbage string) func([]byte) []byte {
	return func(data []byte) []byte {
		copy(data[offset:], garbage)
		return data
	}
}

// wantError fails unless err has the kind and all of the words.
func wantError(t testing.TB, err error, kind failure.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", words)
		return
	}
	if got := failure.KindOf(err); got != kind {
		t.Errorf("kind %d, want %d: %v", got, kind, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// codes returns the codes of findings, each once, in order.
func codes(findings []string) string {
	var list []string
	for _, f := range findings {
		code, _, _ := strings.Cut(f, ":")
		if len(list) == 0 || list[len(list)-1] != code {
			list = append(list, code)
		}
	}
	return strings.Join(list, " ")
}

func contains(err error, words string) bool {
	return err != nil && strings.Contains(err.Error(), words)
}

// liveState is the state of everything but the backups. SQLite's own -wal and
// -shm may come to stand beside a database that is read, if they belong to its
// owner and hold nothing.
func (in *installation) liveState(t testing.TB) string {
	t.Helper()
	var kept []string
	for _, dir := range []string{"config", "data"} {
		if !exists(filepath.Join(in.dir, dir)) {
			continue
		}
		for _, line := range strings.Split(fsxtest.State(t, filepath.Join(in.dir, dir)), "\n") {
			if !strings.Contains(line, "-shm ") && !strings.Contains(line, "-wal 0 ") {
				kept = append(kept, line)
			}
		}
	}
	return strings.Join(kept, "\n")
}

func init() {
	roles["validate"] = func(j job) error {
		store, err := OpenExisting(j.Store)
		if err != nil {
			return err
		}
		result, err := store.Validate(context.Background(), j.Stamp, ValidateOptions{})
		fmt.Println(codes(result.Errors))
		return err
	}
}
