package snapshot

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// stranger is the application's user in these tests.
const stranger = 61234

// canary is what only root may read.
const canary = "the canary that must not get out of its cage"

// cage makes a directory of root's that has whatever a link could be meant to
// lead to: a database, a registry, a Chroma directory.
func cage(t testing.TB, in *installation) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cage")
	must(t, os.Mkdir(dir, 0o700))
	makeDB(
		t,
		filepath.Join(dir, "atocore.db"),
		append(schema, "CREATE TABLE c(x)", "INSERT INTO c VALUES('"+canary+"')")...,
	)
	must(t, os.WriteFile(filepath.Join(dir, "project-registry.json"), []byte(`{"x": "`+canary+`"}`), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "header.bin"), []byte(canary), 0o600))
	must(t, os.CopyFS(filepath.Join(dir, "chroma"), os.DirFS(in.src.Chroma)))
	must(t, os.WriteFile(filepath.Join(dir, "chroma", "extra.bin"), []byte(canary), 0o600))
	return dir
}

// uncaged fails the test where the canary is anywhere below the backups.
func uncaged(t testing.TB, in *installation) {
	t.Helper()
	uncagedBelow(t, in.store.Dir())
}

func uncagedBelow(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(canary)) {
			return fmt.Errorf("%s holds what only root may read", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// handOver makes the live store the application's.
func handOver(t testing.TB, in *installation) {
	t.Helper()
	for _, dir := range []string{"data", "config"} {
		err := filepath.WalkDir(filepath.Join(in.dir, dir), func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, stranger, stranger))
		})
		must(t, err)
	}
}

// swaps are what the application may exchange, and for a link to what.
func swaps(t testing.TB, in *installation, cage string) map[string]string {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(in.src.Chroma, "*-*"))
	must(t, err)
	if len(segments) == 0 {
		t.Fatal("the Chroma directory has no segment")
	}
	return map[string]string{
		filepath.Dir(in.src.DB):                  cage,
		in.src.DB:                                filepath.Join(cage, "atocore.db"),
		in.src.Registry:                          filepath.Join(cage, "project-registry.json"),
		filepath.Dir(in.src.Registry):            cage,
		in.src.Chroma:                            filepath.Join(cage, "chroma"),
		segments[0]:                              cage,
		filepath.Join(segments[0], "header.bin"): filepath.Join(cage, "header.bin"),
		filepath.Join(in.src.Chroma, "chroma.sqlite3"): filepath.Join(cage, "chroma", "chroma.sqlite3"),
	}
}

// A link that the application has put in the place of a live file or directory is
// refused, or left as a link: what it leads to is not in the snapshot.
func TestTakeFollowsNoLinkOfOthers(t *testing.T) {
	in := installFull(t)
	cage := cage(t, in)
	handOver(t, in)
	for path, to := range swaps(t, in, cage) {
		must(t, os.Rename(path, path+".aside"))
		must(t, os.Symlink(to, path))
		must(t, os.Lchown(path, stranger, stranger))
		snap, err := in.take(TakeOptions{Kind: Manual, Full: true, Chroma: chroma.Options{OptimisticTries: 1}})
		if err == nil {
			t.Errorf("%s: taken as %s", path, snap.Stamp)
		}
		t.Logf("%s: %v", filepath.Base(path), err)
		uncaged(t, in)
		must(t, os.Remove(path))
		must(t, os.Rename(path+".aside", path))
	}
	in.mustTake(t, TakeOptions{Kind: Manual, Full: true})
}

// A path that is exchanged for a link while the snapshot is taken, thousands of
// times a second, leads nowhere else: the take ends with an error, or with what
// was there first.
func TestTakeRaces(t *testing.T) { raceTakes(t, installFull(t), provetest.Rounds(t, 4), exchangeHere) }

// exchangeHere exchanges the two names in this process until stop is called, which
// returns how often it did.
func exchangeHere(_ testing.TB, path string) (stop func() int64) {
	var done atomic.Bool
	var group sync.WaitGroup
	var times int64
	group.Go(func() { times = exchange(path, done.Load) })
	return func() int64 {
		done.Store(true)
		group.Wait()
		return times
	}
}

func exchange(path string, done func() bool) (times int64) {
	for ; !done(); times++ {
		_ = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+".evil", unix.RENAME_EXCHANGE)
		if times%2 == 0 {
			time.Sleep(50 * time.Microsecond) // the link stands: a take that begins now is refused
		} else {
			time.Sleep(time.Duration(times*37%23) * 300 * time.Microsecond)
		}
	}
	return times
}

// raceTakes takes a number of snapshots beside each exchange.
func raceTakes(t *testing.T, in *installation, rounds int, race func(testing.TB, string) func() int64) {
	t.Helper()
	cage := cage(t, in)
	handOver(t, in)
	taken, refused, exchanged := 0, 0, int64(0)
	for path, to := range swaps(t, in, cage) {
		must(t, os.Symlink(to, path+".evil"))
		must(t, os.Lchown(path+".evil", stranger, stranger))
		stop := race(t, path)
		for range rounds {
			_, err := in.take(TakeOptions{
				Kind:   Manual,
				Full:   true,
				Chroma: chroma.Options{OptimisticTries: 1, LockDeadline: time.Second},
			})
			if err == nil {
				taken++
			} else {
				refused++
			}
		}
		exchanged += stop()
		uncaged(t, in)
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			must(t, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+".evil", unix.RENAME_EXCHANGE))
		}
		must(t, os.Remove(path+".evil"))
		for _, stray := range []string{"-wal", "-shm"} { // of a database that was looked at under the other name
			_ = os.Remove(path + ".evil" + stray)
		}
	}
	t.Logf("%d exchanges: %d snapshots, %d refused", exchanged, taken, refused)
	provetest.Points(t, taken+refused)
	if exchanged < 100 || taken+refused == 0 {
		t.Error("there was no race")
	}
	in.mustTake(t, TakeOptions{Kind: Manual, Full: true})
}

// A registry that takes no block and 6 GB is not read.
func TestHugeRegistry(t *testing.T) {
	in := install(t)
	must(t, os.Truncate(in.src.Registry, 6<<30))
	_, err := in.take(TakeOptions{})
	if err == nil || !strings.Contains(err.Error(), tree.ErrTooLarge.Error()) ||
		failure.KindOf(err) == failure.Invalid {
		t.Errorf("got %v", err)
	}
}

// execPlain is execDB without the defences of package sqlite: an application has
// none.
func execPlain(t testing.TB, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	must(t, err)
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		_, err := db.Exec(s)
		must(t, err)
	}
	must(t, db.Close())
}

// A sound database that uses what only the application has is published with a
// warning that names the table.
func TestTakeOfAnApplicationsOwnCollation(t *testing.T) {
	in := install(t)
	execDB(t, in.src.DB, "CREATE TABLE pl(t TEXT)", "INSERT INTO pl VALUES('a'), ('b')", "CREATE INDEX i ON pl(t)")
	execPlain(t, in.src.DB, "PRAGMA writable_schema = on",
		"UPDATE sqlite_master SET sql = 'CREATE INDEX i ON pl(t COLLATE icu_root)' WHERE name = 'i'")
	snap := in.mustTake(t, TakeOptions{Kind: Daily})
	v := snap.Manifest.Validation
	if !v.Valid || len(v.Warnings) != 1 || !strings.Contains(
		v.Warnings[0],
		`db_not_checked_whole: db/atocore.db: table "pl"`,
	) {
		t.Errorf("%+v", v)
	}
	if snap.Manifest.DB.Tables["memories"] != 3 {
		t.Errorf("%+v", snap.Manifest.DB)
	}
}
