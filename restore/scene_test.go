package restore

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

const testHost = "dalidou"

// scene is a small deployment: live data in the state "old", with commits that
// are only in its -wal, and a store with one full snapshot of the state "new".
type scene struct {
	base  string
	stamp snapshot.Stamp
}

func (s scene) live() Live {
	return Live{DB: filepath.Join(s.base, "live/db/atocore.db"),
		Registry: filepath.Join(s.base, "live/config/project-registry.json"),
		Chroma:   filepath.Join(s.base, "live/chroma")}
}

func (s scene) backups() string { return filepath.Join(s.base, "backups") }

// openStore opens the store of the scene. The locks lie beside the scene, which is
// compared whole.
func (s scene) openStore() (*snapshot.Store, error) {
	store, err := snapshot.Open(s.backups())
	if err == nil {
		store.KeepLocksIn(filepath.Clean(s.base) + ".locks")
	}
	return store, err
}

func (s scene) request() (Request, error) {
	store, err := s.openStore()
	return Request{
		Options:     Options{ConfirmServiceStopped: true},
		Store:       store,
		StateDir:    stateOf(s.backups()),
		Stamp:       s.stamp,
		Source:      "local",
		Live:        s.live(),
		Host:        testHost,
		PreSnapshot: takeOptions(),
	}, err
}

// stateOf is the state directory beside a scene's backups.
func stateOf(backups string) string { return filepath.Join(filepath.Dir(backups), "state") }

func placeOf(backups string) Place { return Place{StateDir: stateOf(backups), BackupDir: backups} }

func journalPath(backups string) string { return filepath.Join(stateOf(backups), JournalFile) }

// pendingIn returns the journal that stands, without its handle.
func pendingIn(backups string) (*Journal, error) {
	j, err := placeOf(backups).Pending()
	if j != nil {
		j.close()
	}
	return j, err
}

func resumeOptions(store *snapshot.Store) ResumeOptions {
	return ResumeOptions{Store: store, StateDir: stateOf(store.Dir()), PreSnapshot: takeOptions()}
}

// inodeOf is inodeAt for a path.
func inodeOf(path string) (*Identity, error) {
	dir, err := tree.Open(filepath.Dir(path), tree.Trusted(""))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return inodeAt(dir, filepath.Base(path))
}

func takeOptions() snapshot.TakeOptions {
	return snapshot.TakeOptions{
		Kind:        snapshot.Manual,
		Full:        true,
		Host:        testHost,
		ToolVersion: "test",
		Chroma:      chroma.Options{Method: chroma.MethodCold},
	}
}

func (s scene) mustRequest(t *testing.T) Request {
	t.Helper()
	r, err := s.request()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// scratch returns a directory in memory where there is one: these tests fsync
// thousands of times, and a crash of the machine is not what they are about.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "restore-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newScene(t testing.TB) scene {
	t.Helper()
	s, err := makeScene(scratch(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// makeScene builds the deployment below base. Chroma's directory is only
// shaped like one, so that it has few files; real ones are in other tests.
func makeScene(base string) (scene, error) {
	s := scene{base: base}
	live := s.live()
	newChroma := map[string]string{
		"both.bin":     "new bytes",
		"only-new.bin": "brought",
		"seg/data.bin": "new vectors",
		"seg/deep/x":   "x",
	}
	err := errors.Join(
		makeDB(live.DB, "new", false),
		writeFiles(filepath.Dir(live.Registry), map[string]string{"project-registry.json": `{"projects":["new"]}`}),
		writeFiles(live.Chroma, newChroma),
	)
	if err != nil {
		return s, err
	}
	store, err := s.openStore()
	if err != nil {
		return s, err
	}
	snap, err := store.Take(
		context.Background(),
		snapshot.Sources{DB: live.DB, Registry: live.Registry, Chroma: live.Chroma},
		takeOptions(),
	)
	if err != nil {
		return s, err
	}
	s.stamp = snap.Stamp
	if err := os.RemoveAll(filepath.Join(base, "live")); err != nil {
		return s, err
	}
	oldChroma := map[string]string{
		"both.bin":     "old bytes!",
		"only-old.bin": "taken",
		"seg/data.bin": "old vectors",
		"seg/more":     "m",
	}
	return s, errors.Join(
		makeDB(live.DB, "old", true),
		writeFiles(filepath.Dir(live.Registry), map[string]string{"project-registry.json": `{"projects":["old"]}`}),
		writeFiles(live.Chroma, oldChroma),
	)
}

func writeFiles(dir string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			return err
		}
	}
	return nil
}

// makeDB makes a WAL database whose memories say who. With wal its last commits
// are only in the -wal beside it, as a killed service leaves them.
func makeDB(path, who string, wal bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	draft := path + ".draft"
	if err := os.WriteFile(draft, nil, 0o640); err != nil {
		return err
	}
	db, err := openLive(draft)
	if err != nil {
		return err
	}
	defer func() {
		db.Close()
		for _, suffix := range append([]string{""}, sidecars...) {
			os.Remove(draft + suffix)
		}
	}()
	for _, statement := range []string{
		"PRAGMA journal_mode = wal",
		"CREATE TABLE memories (id INTEGER PRIMARY KEY, content TEXT, project TEXT)",
		"INSERT INTO memories (content) VALUES ('" + who + "')",
		"PRAGMA wal_checkpoint(TRUNCATE)",
	} {
		if err := execute(db, statement); err != nil {
			return err
		}
	}
	suffixes := []string{""}
	if wal {
		suffixes = append(suffixes, "-wal")
		if err := execute(db, "INSERT INTO memories (content) VALUES ('"+who+" in the wal')"); err != nil {
			return err
		}
	}
	for _, suffix := range suffixes {
		data, err := os.ReadFile(draft + suffix)
		if err == nil {
			err = os.WriteFile(path+suffix, data, 0o640)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func execute(db *sql.DB, statement string) error {
	rows, err := db.Query(statement)
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

// print lists everything of the live store with owner, mode and digest, and
// nothing else: two stores with the same print are the same.
func (s scene) print() (string, error) { return printOf(filepath.Join(s.base, "live")) }

func printOf(root string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d:%d", rel, info.Mode(), st.Uid, st.Gid)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(data))
		}
		b.WriteString("\n")
		return nil
	})
	return b.String(), err
}

func (s scene) mustPrint(t testing.TB) string {
	t.Helper()
	p, err := s.print()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// contents reads the memories of a database through SQLite.
func contents(t testing.TB, path string) string {
	t.Helper()
	db, err := sqlite.OpenImmutable(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT content FROM memories ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return strings.Join(all, ",")
}

func mustRead(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// unpackChroma lays a directory made by a real Chroma server out at dir.
func unpackChroma(t testing.TB, dir string) {
	t.Helper()
	f, err := os.Open("../snapshot/chroma/testdata/whole.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, strings.TrimPrefix(h.Name, "whole/"))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			var data []byte
			if data, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(path, data, 0o644)
			}
			if err == nil {
				err = os.Chtimes(path, h.ModTime, h.ModTime)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// take snapshots what is live now, with everything.
func (s scene) take(t testing.TB) snapshot.Stamp {
	t.Helper()
	store, err := s.openStore()
	if err != nil {
		t.Fatal(err)
	}
	live := s.live()
	snap, err := store.Take(
		context.Background(),
		snapshot.Sources{DB: live.DB, Registry: live.Registry, Chroma: live.Chroma},
		takeOptions(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return snap.Stamp
}

// openLive opens a database as its application does.
func openLive(path string) (*sql.DB, error) {
	live, err := sqlite.OpenLive(path, tree.Trusted(""))
	if err != nil {
		return nil, err
	}
	defer live.Close()
	return live.OpenReadWrite(context.Background(), time.Second)
}
