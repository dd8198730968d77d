package chroma

import (
	"bytes"
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
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// furnish adds to a Chroma directory what else may lie in one.
func furnish(t *testing.T, dir string) {
	t.Helper()
	old := time.Date(2025, 1, 2, 3, 4, 5, 678901234, time.UTC)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "empty"), 0o750))
	must(os.Mkdir(filepath.Join(dir, restorePrefix+"20260407T060000Z"), 0o755))
	must(os.WriteFile(filepath.Join(dir, restorePrefix+"20260407T060000Z", "staged"), nil, 0o600))
	must(os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("unknown to Chroma"), 0o600))
	must(os.Chmod(filepath.Join(dir, "notes.txt"), 0o440))
	must(os.Symlink("notes.txt", filepath.Join(dir, "link")))
	must(os.Chtimes(filepath.Join(dir, "notes.txt"), old, old))
	must(os.Chtimes(filepath.Join(dir, "empty"), old, old))
	must(os.Chmod(segmentOf(t, dir), 0o555))
	t.Cleanup(func() {
		_ = filepath.Walk(filepath.Dir(dir), func(path string, info fs.FileInfo, err error) error {
			if err == nil && info.IsDir() {
				_ = os.Chmod(path, 0o755)
			}
			return nil
		})
	})
}

// sameTree fails unless the copy holds what the source does, modes and times
// included. The database may differ in bytes, not in anything else.
func sameTree(t *testing.T, src, dst string) {
	t.Helper()
	want, err := Walk(dirAt(src))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Walk(dirAt(dst))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d:\n%s", len(got), len(want), fsxtest.Tree(t, dst))
	}
	for i, w := range want {
		g := got[i]
		if g.Path != w.Path || g.Type != w.Type || g.Target != w.Target || g.Mode != w.Mode || !g.MTime.Equal(w.MTime) {
			t.Errorf("copied %+v\nfrom   %+v", g, w)
		}
		if w.Type != TypeFile || w.Path == databaseName {
			continue
		}
		a, errA := os.ReadFile(filepath.Join(src, w.Path))
		b, errB := os.ReadFile(filepath.Join(dst, w.Path))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %v, %v", w.Path, errA, errB)
		}
	}
}

// everyCopier runs a test with both ways to copy.
func everyCopier(t *testing.T, test func(t *testing.T, copy func(src, dst string) (Copied, error))) {
	for name, copy := range map[string]func(src, dst string) (Copied, error){
		"optimistic": func(src, dst string) (Copied, error) {
			return CopyLive(t.Context(), dirAt(src), dst, Options{OptimisticTries: 5, Share: true})
		},
		"write lock": func(src, dst string) (Copied, error) {
			return CopyLive(t.Context(), dirAt(src), dst, Options{})
		},
		"cold": func(src, dst string) (Copied, error) {
			return CopyCold(t.Context(), dirAt(src), dst, Options{})
		},
		"freeze": func(src, dst string) (Copied, error) {
			f := Freeze{Command: []string{"true"}, Thaw: []string{"true"}}
			return CopyFrozen(t.Context(), dirAt(src), dst, f, Options{})
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, copy) })
	}
}

func TestCopyWhole(t *testing.T) {
	everyCopier(t, func(t *testing.T, copy func(src, dst string) (Copied, error)) {
		src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
		furnish(t, src)
		before := list(t, src)
		c, err := copy(src, dst)
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, src, dst)
		if after := list(t, src); after != before {
			t.Errorf("the source was changed:\n%s\n%s", before, after)
		}
		if c.Files != 12 || len(c.Entries) != 16 || c.Consistency != Consistent || c.Report.Vectors != 240 ||
			len(c.Warnings) != 0 {
			t.Errorf("copied: %+v", c)
		}
		var bytes int64
		for _, e := range c.Entries {
			if info, err := os.Lstat(filepath.Join(dst, e.Path)); err != nil ||
				e.Type == TypeFile && info.Size() != e.Size {
				t.Errorf("entry %+v: %v", e, err)
			}
			bytes += e.Size
		}
		if c.Bytes != bytes {
			t.Errorf("%d bytes, the entries have %d", c.Bytes, bytes)
		}
		if !strings.HasSuffix(
			t.Name(),
			strings.ReplaceAll(strings.TrimPrefix(strings.TrimSuffix(c.Method, " (1 try)"), "live: "), " ", "_"),
		) {
			t.Errorf("method %q", c.Method)
		}
	})
}

func TestCopyRefusesStrangeFiles(t *testing.T) {
	everyCopier(t, func(t *testing.T, copy func(src, dst string) (Copied, error)) {
		src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
		if err := os.Symlink("/etc/passwd", filepath.Join(src, "passwd")); err != nil {
			t.Fatal(err)
		}
		if _, err := copy(src, dst); failure.KindOf(err) != failure.Refused ||
			!strings.Contains(err.Error(), filepath.Join(src, "passwd")) {
			t.Errorf("error %v", err)
		}
		if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it left something: %v", err)
		}
	})
}

func TestCopyNeverReplaces(t *testing.T) {
	everyCopier(t, func(t *testing.T, copy func(src, dst string) (Copied, error)) {
		src, dst := unpack(t, "whole"), t.TempDir()
		if err := os.WriteFile(filepath.Join(dst, "mine"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := copy(src, dst); !errors.Is(err, fs.ErrExist) {
			t.Errorf("error %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dst, "mine")); err != nil {
			t.Error(err)
		}
	})
}

// A source that is broken itself is copied, refused, and kept for quarantine.
func TestCopyOfBrokenIsInvalid(t *testing.T) {
	everyCopier(t, func(t *testing.T, copy func(src, dst string) (Copied, error)) {
		src, dst := unpack(t, "broken"), filepath.Join(t.TempDir(), "copy")
		c, err := copy(src, dst)
		if failure.KindOf(err) != failure.Invalid || !strings.Contains(err.Error(), CodeSegmentCorrupt) {
			t.Fatalf("error %v", err)
		}
		if c.Consistency != Unverified || len(c.Report.Errors) == 0 || c.Files != 11 {
			t.Errorf("copied: %+v", c)
		}
		if len(c.Warnings) != 1 || c.Warnings[0].Code != CodeCutShort ||
			!strings.Contains(c.Warnings[0].Text, level0Name+" is newer than "+pickleName) {
			t.Errorf("warnings: %v", c.Warnings)
		}
		sameTree(t, src, dst)
	})
}

// What runs beside the validation runs for each copy that is made, sees it whole,
// and ends the copy when it fails.
func TestCopyWithWorkBeside(t *testing.T) {
	dst, runs := "", 0
	beside := func(context.Context) error {
		runs++
		_, err := os.Stat(databaseIn(dst))
		return err
	}
	for name, test := range map[string]struct {
		source string
		copy   func(src string, o Options) (Copied, error)
		runs   int
	}{
		"sound": {"whole", func(src string, o Options) (Copied, error) {
			return CopyCold(t.Context(), dirAt(src), dst, o)
		}, 1},
		"broken": {"broken", func(src string, o Options) (Copied, error) {
			return CopyCold(t.Context(), dirAt(src), dst, o)
		}, quietTries},
		"raw": {"broken", func(src string, o Options) (Copied, error) {
			return CopyRaw(t.Context(), dirAt(src), dst, o)
		}, 1},
	} {
		src := unpack(t, test.source)
		dst, runs = filepath.Join(t.TempDir(), "copy"), 0
		if _, err := test.copy(src, Options{Beside: beside}); err != nil && failure.KindOf(err) != failure.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if runs != test.runs {
			t.Errorf("%s: it ran %d times, not %d", name, runs, test.runs)
		}
		dst = filepath.Join(t.TempDir(), "copy")
		failed := errors.New("beside")
		o := Options{Beside: func(context.Context) error { return failed }}
		if _, err := test.copy(src, o); !errors.Is(err, failed) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it left something: %v", name, err)
		}
	}
}

func TestCopyWithoutDatabase(t *testing.T) {
	everyCopier(t, func(t *testing.T, copy func(src, dst string) (Copied, error)) {
		src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
		if err := os.Remove(databaseIn(src)); err != nil {
			t.Fatal(err)
		}
		c, err := copy(src, dst)
		if err != nil || c.Method != "cold" && c.Method != "freeze" || c.Consistency != Unverified ||
			len(c.Warnings) != 1 ||
			c.Warnings[0].Code != CodeUnrecognised {
			t.Errorf("copied %+v, %v", c, err)
		}
		sameTree(t, src, dst)
	})
}

func TestCopyFailsWhole(t *testing.T) {
	everyCopier(t, func(t *testing.T, copy func(src, dst string) (Copied, error)) {
		src, into := unpack(t, "whole"), t.TempDir()
		furnish(t, src)
		before := list(t, src)
		dst := filepath.Join(into, "copy")
		fsxtest.EachFailure(t, func() error {
			_, err := copy(src, dst)
			return err
		}, func(k int, at string, err error) {
			if !errors.Is(err, fsxtest.ErrInjected) && !strings.Contains(err.Error(), fsxtest.ErrInjected.Error()) {
				t.Fatalf("failure %d (%s): error %v", k, at, err)
			}
			if left := fsxtest.Tree(t, into); left != ".\n" {
				t.Fatalf("failure %d (%s) left\n%s", k, at, left)
			}
			if after := list(t, src); after != before {
				t.Fatalf("failure %d (%s) changed the source:\n%s", k, at, after)
			}
			execSQL(t, src, "BEGIN IMMEDIATE", "ROLLBACK") // no connection was left with a lock
		})
	})
}

func TestCopyStopsWhenCancelled(t *testing.T) {
	src, into := unpack(t, "whole"), t.TempDir()
	for _, method := range []Method{MethodLive, MethodCold} {
		ctx, cancel := context.WithCancel(t.Context())
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			if op == fsx.OpCopy {
				cancel()
			}
			return nil
		})
		_, err := Copy(ctx, dirAt(src), filepath.Join(into, string(method)), Options{Method: method})
		stop()
		if failure.KindOf(err) != failure.Interrupted {
			t.Errorf("%s: %v", method, err)
		}
	}
	if left := fsxtest.Tree(t, into); left != ".\n" {
		t.Errorf("left\n%s", left)
	}
}

// A cold copy of what is not cold is refused.
func TestCopyColdNoticesWriters(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	victim := filepath.Join(segmentOf(t, src), lengthName)
	second := time.Now().Add(-time.Hour)
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if op != fsx.OpCopy || filepath.Base(path) != lengthName {
			return nil
		}
		second = second.Add(time.Second)
		return os.Chtimes(victim, second, second)
	})
	defer stop()
	_, err := CopyCold(t.Context(), dirAt(src), dst, Options{})
	if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), lengthName+" was written meanwhile") ||
		!strings.Contains(err.Error(), "stop the service first") {
		t.Errorf("error %v", err)
	}
}

// A process that died in mid-transaction leaves a journal. The copy is what
// SQLite will make of it, and the source is left for SQLite.
func TestCopyColdSettlesAJournal(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	waiting := helperWaiting(t, "crash", databaseIn(src))
	waiting.Kill()
	if r := judge(t, src); len(r.Errors) == 0 {
		t.Fatal("the crash did no harm: the test proves nothing")
	}
	before := list(t, src)
	c, err := CopyCold(t.Context(), dirAt(src), dst, Options{})
	if err != nil || c.Consistency != Consistent || c.Report.Vectors != 240 {
		t.Fatalf("copied %+v, %v", c, err)
	}
	if _, err := os.Lstat(databaseIn(dst) + "-journal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is still there: %v", err)
	}
	if len(c.Entries) != 13 || list(t, src) != before {
		t.Errorf("%d entries; source before:\n%s\nafter:\n%s", len(c.Entries), before, list(t, src))
	}
}

func TestCopyColdSettlesAWAL(t *testing.T) {
	live, src, dst := unpack(t, "whole"), t.TempDir(), filepath.Join(t.TempDir(), "copy")
	db := openDB(t, live)
	if _, err := db.Exec("PRAGMA journal_mode = WAL"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE collections SET name = 'in_the_wal' WHERE name = 'docs_0'"); err != nil {
		t.Fatal(err)
	}
	// What a crash leaves is what lies there now.
	if err := os.CopyFS(src, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	c, err := CopyCold(t.Context(), dirAt(src), dst, Options{})
	if err != nil || c.Consistency != Consistent {
		t.Fatalf("copied %+v, %v", c, err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Lstat(databaseIn(dst) + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", suffix, err)
		}
	}
	data, err := os.ReadFile(databaseIn(dst))
	if err != nil || !bytes.Contains(data, []byte("in_the_wal")) {
		t.Errorf("what was in the WAL is not in the copy: %v", err)
	}
}
