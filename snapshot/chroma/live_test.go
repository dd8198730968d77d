package chroma

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// onCopy calls fn before the n-th file of that name (counted from 1) is copied,
// where a real Chroma might come in between.
func onCopy(t *testing.T, name string, n int, fn func()) {
	t.Helper()
	seen := 0
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if op == fsx.OpCopy && filepath.Base(path) == name {
			if seen++; seen == n {
				fn()
			}
		}
		return nil
	})
	t.Cleanup(stop)
}

// persist rewrites a segment's files in place in Chroma's order, at a time that
// is past but not at rest.
func persist(t *testing.T, segment string, names ...string) {
	t.Helper()
	at := time.Now().Add(-time.Second)
	for _, name := range names {
		path := filepath.Join(segment, name)
		edit(t, path, func(b []byte) []byte { return b })
		at = at.Add(time.Millisecond)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

var persistOrder = []string{headerName, level0Name, lengthName, linksName, pickleName}

func TestLiveTriesAgainWhatMoved(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	segment := segmentOf(t, src)
	copies := map[string]int{}
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		name, _ := filepath.Rel(dst, path)
		if op == fsx.OpCopy {
			copies[name]++
		}
		if op == fsx.OpCopy && copies[name] == 1 && name == filepath.Join(filepath.Base(segment), linksName) {
			persist(t, segment, persistOrder...)
			if err := os.WriteFile(filepath.Join(src, "new"), nil, 0o600); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	defer stop()
	c, err := CopyLive(t.Context(), dirAt(src), dst, Options{OptimisticTries: 3})
	if err != nil || c.Method != "live: optimistic (2 tries)" {
		t.Fatalf("copied %+v, %v", c, err)
	}
	sameTree(t, src, dst)
	for name, n := range copies {
		want := 1
		if filepath.Dir(name) == filepath.Base(segment) {
			want = 2
		}
		if n != want {
			t.Errorf("%s was copied %d times, want %d", name, n, want)
		}
	}
}

// What goes or changes its kind between two tries does so in the copy too.
func TestLiveFollowsRemovals(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	for _, name := range []string{"a/b/file", "c/file", "later", "zz"} {
		if err := errors.Join(
			os.MkdirAll(filepath.Join(src, filepath.Dir(name)), 0o755),
			os.WriteFile(filepath.Join(src, name), nil, 0o600),
		); err != nil {
			t.Fatal(err)
		}
	}
	onCopy(t, "zz", 1, func() {
		err := errors.Join(
			os.RemoveAll(filepath.Join(src, "a")),
			os.RemoveAll(filepath.Join(src, "c")),
			os.Symlink("later", filepath.Join(src, "c")),
			os.Remove(
				filepath.Join(src, "later"),
			),
			os.Mkdir(filepath.Join(src, "later"), 0o700),
			os.WriteFile(filepath.Join(src, "later", "in"), nil, 0o600),
		)
		if err != nil {
			t.Error(err)
		}
	})
	c, err := CopyLive(t.Context(), dirAt(src), dst, Options{OptimisticTries: 3})
	if err != nil || c.Method != "live: optimistic (2 tries)" {
		t.Fatalf("copied %+v, %v", c, err)
	}
	sameTree(t, src, dst)
}

// The numbers move although every file looks the same: the copy of the database
// is of another moment than the noted ones.
func TestLiveNoticesMaxSeqID(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	db := openDB(t, src)
	onCopy(t, linksName, 1, func() {
		if _, err := db.Exec("UPDATE max_seq_id SET seq_id = seq_id - 1 WHERE segment_id IN (SELECT id FROM " +
			"segments WHERE scope = 'VECTOR')"); err != nil {
			t.Error(err)
		}
	})
	c, err := CopyLive(t.Context(), dirAt(src), dst, Options{OptimisticTries: 3})
	if err != nil || c.Method != "live: optimistic (2 tries)" {
		t.Fatalf("copied %+v, %v", c, err)
	}
}

// A persist that does not end keeps the optimistic tries from being accepted,
// and the write lock waits for it.
func TestLiveWaitsForAPersist(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	segment := segmentOf(t, src)
	persist(t, segment, headerName, level0Name)
	l := newLive(t, src, dst)
	if _, why, err := l.waitIdle(t.Context(), 0); err != nil ||
		!strings.Contains(why, level0Name+" is newer than "+pickleName) {
		t.Fatalf("calm: %q, %v", why, err)
	}
	done := make(chan error)
	go func() {
		_, why, err := l.waitIdle(t.Context(), time.Minute)
		done <- errors.Join(err, errorIf(why))
	}()
	persist(t, segment, lengthName, linksName, pickleName)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func errorIf(why string) error {
	if why != "" {
		return errors.New(why)
	}
	return nil
}

func newLive(t *testing.T, src, dst string) *live {
	t.Helper()
	m, err := newMirror(
		dirAt(src),
		dst,
		false,
		func(path string) bool { return path == databaseName || isSidecar(path) },
	)
	if err != nil {
		t.Fatal(err)
	}
	return &live{mirror: m, from: liveIn(m.src)}
}

// From the first file to the last fsync nobody else may write, not even after
// the connection that read the database for the copy has been closed, and no
// journal stands beside it meanwhile.
func TestWriteLockHolds(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	asked := map[string]bool{}
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		name := filepath.Base(path)
		underLock := name == databaseName || op == fsx.OpCopy
		if asked[string(op)+name] || !underLock || op == fsx.OpSync && asked["sync database"] {
			return nil
		}
		asked[string(op)+name] = true
		if op == fsx.OpSync {
			asked["sync database"] = true // the second one is made when the lock is gone
		}
		if otherMayWrite(t, src) {
			t.Errorf("%s %s: another process may write", op, name)
		}
		for _, suffix := range []string{"-journal", "-wal", "-shm"} {
			if _, err := os.Lstat(databaseIn(src) + suffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %s: there is a %s: %v", op, name, suffix, err)
			}
		}
		return nil
	})
	defer stop()
	c, err := CopyLive(t.Context(), dirAt(src), dst, Options{})
	if err != nil || c.Method != "live: write lock" || c.Locked <= 0 {
		t.Fatalf("copied %+v, %v", c, err)
	}
	for _, what := range []string{"copy" + level0Name, "create" + databaseName, "sync database"} {
		if !asked[what] {
			t.Errorf("%q was never asked: %v", what, asked)
		}
	}
	if !otherMayWrite(t, src) {
		t.Error("the lock is still held")
	}
}

// A file that moves under the lock is copied again, and the lock is kept.
func TestWriteLockRepeatsUntilNothingMoves(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	segment := segmentOf(t, src)
	onCopy(t, linksName, 1, func() { persist(t, segment, persistOrder...) })
	c, err := CopyLive(t.Context(), dirAt(src), dst, Options{})
	if err != nil || c.Method != "live: write lock" {
		t.Fatalf("copied %+v, %v", c, err)
	}
	sameTree(t, src, dst)
}

func TestWriteLockHasADeadline(t *testing.T) {
	src, into := unpack(t, "whole"), t.TempDir()
	helperWaiting(t, "hold", databaseIn(src))
	_, err := CopyLive(
		t.Context(),
		dirAt(src),
		filepath.Join(into, "copy"),
		Options{LockDeadline: 50 * time.Millisecond},
	)
	if err == nil || !strings.Contains(err.Error(), "no copy under the write lock within 50ms") ||
		!strings.Contains(err.Error(), `set chroma_method = "api" or "freeze"`) {
		t.Errorf("error %v", err)
	}
	if entries, _ := os.ReadDir(into); len(entries) > 0 {
		t.Errorf("it left %v", entries)
	}
}

// The deadline also ends a copy that has the lock.
func TestWriteLockIsGivenBackAtTheDeadline(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	persist(t, segmentOf(t, src), headerName) // never finished
	future := time.Now().Add(time.Hour)       // and never at rest
	if err := os.Chtimes(filepath.Join(segmentOf(t, src), headerName), future, future); err != nil {
		t.Fatal(err)
	}
	_, err := CopyLive(t.Context(), dirAt(src), dst, Options{LockDeadline: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "raise chroma_lock_deadline") {
		t.Errorf("error %v", err)
	}
	if !otherMayWrite(t, src) {
		t.Error("the lock is still held")
	}
}

// Who may only read gets no lock: BEGIN IMMEDIATE would succeed and lock
// nothing. It must be told, not passed over.
func TestWriteLockNeedsWriteAccess(t *testing.T) {
	src, into := unpack(t, "whole"), t.TempDir()
	cmd := helper("copy", src, filepath.Join(into, "copy"))
	unprivileged(t, cmd, src)
	if err := os.Chmod(into, 0o777); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is read-only for this process") ||
		!strings.Contains(string(out), "give this process write access to the file") {
		t.Errorf("%v: %s", err, out)
	}
	if strings.Contains(string(out), "write lock\n") {
		t.Errorf("it copied: %s", out)
	}
}

func TestLiveOfAnotherFormat(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	edit(t, filepath.Join(segmentOf(t, src), headerName), put(0, 2))
	persist(t, segmentOf(t, src), persistOrder...)
	execSQL(t, src, "DROP TABLE embeddings_queue_config")
	c, err := CopyLive(t.Context(), dirAt(src), dst, Options{OptimisticTries: 1})
	if err != nil || c.Consistency != Unverified || len(c.Warnings) != 1 || c.Warnings[0].Code != CodeUnrecognised {
		t.Errorf("copied %+v, %v", c, err)
	}
}

func TestLiveDatabaseThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		make  func(path string) error
		words string
	}{
		"a link": {func(path string) error { return os.Symlink("notes", path) }, "not a regular file"},
		"not SQLite": {
			func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("x", 9000)), 0o600) },
			"not a database",
		},
		"a directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
	} {
		src := filepath.Join(t.TempDir(), "src")
		if err := errors.Join(os.Mkdir(src, 0o755), c.make(databaseIn(src))); err != nil {
			t.Fatal(err)
		}
		_, err := CopyLive(
			context.Background(),
			dirAt(src),
			filepath.Join(t.TempDir(), "copy"),
			Options{OptimisticTries: 2},
		)
		if err == nil || !strings.Contains(err.Error(), c.words) || failure.KindOf(err) == failure.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Chroma died in mid-transaction: readers are shut out until somebody rolls it
// back, which the taker of the write lock does.
func TestLiveAfterACrash(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	helperWaiting(t, "crash", databaseIn(src)).Kill()
	if r := judge(t, src); len(r.Errors) == 0 {
		t.Fatal("the crash did no harm: the test proves nothing")
	}
	c, err := CopyLive(t.Context(), dirAt(src), dst, Options{OptimisticTries: 2})
	if err != nil || c.Method != "live: write lock" || c.Consistency != Consistent || c.Report.Vectors != 240 {
		t.Errorf("copied %+v, %v", c, err)
	}
	if r := judge(t, src); len(r.Errors) > 0 {
		t.Errorf("the source was left as %v", r.Errors)
	}
}

// Somebody has put the database into WAL mode, and Chroma has it open.
func TestLiveOfAWAL(t *testing.T) {
	for name, tries := range map[string]int{"optimistic": 3, "write lock": 0} {
		src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
		db := openDB(t, src)
		for _, s := range []string{
			"PRAGMA journal_mode = WAL",
			"UPDATE collections SET name = 'in_the_wal' WHERE name = 'docs_0'",
		} {
			if _, err := db.Exec(s); err != nil {
				t.Fatal(err)
			}
		}
		c, err := CopyLive(t.Context(), dirAt(src), dst, Options{OptimisticTries: tries})
		if err != nil || !strings.HasPrefix(c.Method, "live: "+name) || c.Consistency != Consistent {
			t.Errorf("%s: copied %+v, %v", name, c, err)
		}
		data, err := os.ReadFile(databaseIn(dst))
		if err != nil || !strings.Contains(string(data), "in_the_wal") {
			t.Errorf("%s: what was in the WAL is not in the copy: %v", name, err)
		}
		if _, err := os.Lstat(databaseIn(dst) + "-wal"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the copy has a -wal: %v", name, err)
		}
	}
}
