package restore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

// A service that is started in mid-swap finds no database and makes one, with a
// -wal. Nothing of it may leak into the restored store, and nothing of it is
// deleted.
func TestStrangersAreMovedAside(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, end := range []string{"resume", "abort"} {
		t.Run(end, func(t *testing.T) {
			s, c := pendingScene(t)
			live := s.live()
			if err := makeDB(live.DB, "stranger", true); err != nil {
				t.Fatal(err)
			}
			if err := writeFiles(
				live.Chroma,
				map[string]string{"stranger.bin": "s", "seg-of-a-stranger/x": "y"},
			); err != nil {
				t.Fatal(err)
			}
			finish, want := Resume, "new"
			if end == "abort" {
				finish, want = Abort, "old,old in the wal"
			}
			res, err := finish(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got := contentsWithWAL(t, s); got != want {
				t.Errorf("the database says %q", got)
			}
			kept := keptDir(filepath.Dir(live.DB), s.stamp)
			if got := contents(t, filepath.Join(kept, "atocore.db")); got != "stranger" ||
				!exists(filepath.Join(kept, "atocore.db-wal")) {
				t.Errorf("the stranger's database was not kept whole: %q", got)
			}
			if !strings.Contains(strings.Join(res.Warnings, "\n"), filepath.Join(kept, "atocore.db-wal")) {
				t.Errorf("nobody was told: %v", res.Warnings)
			}
			inChroma := filepath.Join(live.Chroma, "stranger.bin")
			if end == "resume" {
				inChroma = filepath.Join(keptDir(live.Chroma, s.stamp), "stranger.bin")
			}
			if !exists(inChroma) {
				t.Errorf("%s is gone", inChroma)
			}
		})
	}
}

// The old database was written to after the restore had been interrupted before
// its first step: no snapshot has those commits.
func TestWritesSinceTheInterruptionAreKept(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	r := s.mustRequest(t)
	r.NoPreSnapshot = true
	cut := false
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if j, err := pendingIn(s.backups()); err == nil && j != nil && j.Phase == PhaseSwapping {
			cut = true
		}
		if cut {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	_, err := Run(context.Background(), r)
	stop()
	if err == nil {
		t.Fatal("it was not interrupted")
	}
	db, err := os.OpenFile(s.live().DB, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Write(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Resume(context.Background(), resumeOptions(r.Store)); err != nil {
		t.Fatal(err)
	}
	if contents(t, s.live().DB) != "new" ||
		!exists(filepath.Join(keptDir(filepath.Dir(s.live().DB), s.stamp), "atocore.db")) {
		t.Error("the database that was written to was not kept")
	}
}

// What is exchanged behind the swap is found, and the old store is put back.
func TestSwapsBackWhatIsExchanged(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, victim := range []func(Live) string{
		func(l Live) string { return l.DB },
		func(l Live) string { return l.Registry },
		func(l Live) string { return filepath.Join(l.Chroma, "both.bin") },
	} {
		s := newScene(t)
		old := s.mustPrint(t)
		path := victim(s.live())
		spoilt := false
		stop := fsx.Observe(func(op fsx.Op, p string) error {
			// The last call of the swap: the directory of Chroma's new children.
			if op == fsx.OpSyncDir && strings.HasSuffix(p, "chroma/old") &&
				exists(filepath.Join(s.live().Chroma, "only-new.bin")) &&
				!spoilt {
				spoilt = true
				replaceFile(t, path)
			}
			return nil
		})
		res, err := Run(context.Background(), s.mustRequest(t))
		stop()
		if !spoilt || err == nil || !strings.Contains(err.Error(), "everything was put back") {
			t.Fatalf("%s: spoilt %v, got %v", path, spoilt, err)
		}
		if res.DBRestored || res.RestoredIntegrityOK || res.PreRestoreSnapshot != "" {
			t.Errorf("%+v", res)
		}
		kept := keptDir(filepath.Dir(path), s.stamp)
		if got := mustRead(t, filepath.Join(kept, filepath.Base(path))); got != "a stranger" {
			t.Errorf("what somebody else put there is not kept: %q", got)
		}
		if err := os.RemoveAll(kept); err != nil {
			t.Fatal(err)
		}
		if now := s.mustPrint(t); now != old {
			t.Errorf("%s: the store is not what it was:\n%s\n%s", path, now, old)
		}
	}
}

// replaceFile puts another file where path leads.
func replaceFile(t *testing.T, path string) {
	t.Helper()
	other := path + ".other"
	if err := os.WriteFile(other, []byte("a stranger"), 0o640); err != nil {
		t.Error(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Error(err)
	}
}

// flip changes one byte as a bad disk would: size and time stay.
func flip(t *testing.T, path string) {
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	data, err := os.ReadFile(path)
	if err == nil {
		data[len(data)/2] ^= 0xff
		err = os.WriteFile(path, data, 0)
	}
	if err == nil {
		err = os.Chtimes(path, time.Time{}, info.ModTime())
	}
	if err != nil {
		t.Error(err)
	}
}

// Ctrl-C before the swap leaves everything as it was; in the swap it is carried
// through.
func TestCancellation(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	template := s.base + ".template"
	t.Cleanup(func() { os.RemoveAll(template) })
	mustCopy(t, s.base, template)
	old := s.mustPrint(t)
	outcomes := map[string]int{}
	for k := 1; ; k++ {
		mustCopy(t, template, s.base)
		r := s.mustRequest(t)
		r.NoPreSnapshot = true
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		stop := fsx.Observe(func(fsx.Op, string) error {
			if calls++; calls == k {
				cancel()
			}
			return nil
		})
		res, err := Run(ctx, r)
		stop()
		cancel()
		switch {
		case err == nil && res.DBRestored && contents(t, s.live().DB) == "new":
			outcomes["carried through"]++
		case err != nil && s.mustPrint(t) == old:
			outcomes["as it was"]++
		default:
			t.Errorf("cancelled at call %d: %v", k, err)
		}
		assertNoTraces(t, s)
		if calls < k {
			break
		}
	}
	if outcomes["as it was"] < 10 || outcomes["carried through"] < 10 {
		t.Errorf("%v", outcomes)
	}
	t.Log(outcomes)
}
