package restore

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*testing.T, scene, *Request)
		kind  failure.Kind
		says  string
		allow func(*Request) // what lets it through; nil for nothing
	}{
		"other host": {
			func(_ *testing.T, _ scene, r *Request) { r.Host = "elsewhere" }, failure.Refused,
			`taken on host "dalidou", this is "elsewhere"`, func(r *Request) { r.AcceptOtherDeployment = true },
		},
		"other paths": {
			func(t *testing.T, s scene, r *Request) {
				r.Live.Registry = filepath.Join(s.base, "live/config/other.json")
			}, failure.Refused, "its registry was saved from", func(r *Request) { r.AcceptOtherDeployment = true },
		},
		"rotten snapshot": {
			func(t *testing.T, s scene, r *Request) {
				writeOver(t, filepath.Join(r.dir(), "chroma/both.bin"), "nEw bytes")
			}, failure.Invalid, "checksum_mismatch: chroma/both.bin", func(r *Request) { r.AllowInvalid = true },
		},
		"no chroma in it": {
			func(t *testing.T, s scene, r *Request) {
				o := takeOptions()
				o.Full = false
				snap, err := r.Store.Take(
					context.Background(),
					snapshot.Sources{DB: r.Live.DB, Registry: r.Live.Registry},
					o,
				)
				if err != nil {
					t.Fatal(err)
				}
				r.Stamp, r.ForceChroma = snap.Stamp, true
			}, failure.Refused, "chroma_snapshot_missing", func(r *Request) { r.ForceChroma = false },
		},
		"left-over workspace": {
			func(t *testing.T, s scene, r *Request) {
				if err := os.MkdirAll(workDir(r.Live.Chroma, r.Stamp), 0o700); err != nil {
					t.Fatal(err)
				}
			}, failure.Refused, "is in the way", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			r := s.mustRequest(t)
			c.spoil(t, s, &r)
			before := s.mustPrint(t)
			_, err := Run(context.Background(), r)
			if failure.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) ||
				!strings.HasPrefix(err.Error(), "restore refused: "+string(r.Stamp)) {
				t.Errorf("got %v", err)
			}
			if s.mustPrint(t) != before || exists(journalPath(s.backups())) {
				t.Error("something was touched")
			}
			if c.allow == nil {
				return
			}
			c.allow(&r)
			if res, err := Run(context.Background(), r); err != nil || !res.DBRestored {
				t.Errorf("allowed: %v", err)
			}
		})
	}
}

func writeOver(t *testing.T, path, content string) {
	t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLeavesTheRestAlone: what a snapshot lacks, and Chroma with --no-chroma,
// stays.
func TestLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	live := s.live()
	if err := os.Remove(live.Registry); err != nil {
		t.Fatal(err)
	}
	stamp := s.take(t)
	if err := os.WriteFile(live.Registry, []byte(`{"made": "since"}`), 0o640); err != nil {
		t.Fatal(err)
	}
	r := s.mustRequest(t)
	r.Stamp, r.NoChroma = stamp, true
	if err := os.WriteFile(filepath.Join(live.Chroma, "since"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if res.RegistryRestored || res.ChromaRestored || !res.DBRestored ||
		!strings.Contains(strings.Join(res.Warnings, ""), "registry") {
		t.Errorf("%+v", res)
	}
	if mustRead(t, live.Registry) != `{"made": "since"}` || !exists(filepath.Join(live.Chroma, "since")) {
		t.Error("what should stay did not")
	}
	pre, err := snapshot.ReadManifest(r.Store.Path(snapshot.Stamp(res.PreRestoreSnapshot)))
	if err != nil || pre.Artifacts[snapshot.Chroma].Included {
		t.Errorf("the pre-restore snapshot holds Chroma although it was not replaced: %v", err)
	}
}

// pendingScene returns a scene whose restore has stopped in mid-swap: the call
// that moves the new database in and every one after it fail.
func pendingScene(t *testing.T) (scene, ResumeOptions) {
	t.Helper()
	s := newScene(t)
	r := s.mustRequest(t)
	r.NoPreSnapshot = true
	cut := false
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		cut = cut || op == fsx.OpRename && path == s.live().DB
		if cut {
			return errors.New("cut")
		}
		return nil
	})
	_, err := Run(context.Background(), r)
	stop()
	if err == nil || !strings.Contains(err.Error(), "--resume") || !exists(journalPath(s.backups())) {
		t.Fatalf("got %v", err)
	}
	if exists(s.live().DB) {
		t.Fatal("the swap is not half done")
	}
	return s, resumeOptions(r.Store)
}

func TestPendingRestoreIsInTheWay(t *testing.T) {
	if !alone(t) {
		return
	}
	s, c := pendingScene(t)
	err := placeOf(s.backups()).RefusePending()
	if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "restore --resume") ||
		!strings.Contains(err.Error(), "restore --abort") {
		t.Errorf("got %v", err)
	}
	if _, err := Run(context.Background(), s.mustRequest(t)); failure.KindOf(err) != failure.Refused {
		t.Errorf("another restore: %v", err)
	}
	// Somebody opens what has been moved aside.
	j, err := pendingIn(s.backups())
	if err != nil {
		t.Fatal(err)
	}
	held := again("hold", filepath.Join(j.Sets[0].Work, "old", "atocore.db"))
	held.Stderr = nil
	pipe, err := held.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ready, err := held.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Abort(context.Background(), c); failure.KindOf(err) != failure.Refused ||
		!strings.Contains(err.Error(), "is open in pid") {
		t.Errorf("got %v", err)
	}
	pipe.Close()
	if err := held.Wait(); err != nil {
		t.Fatal(err)
	}
	if res, err := Abort(context.Background(), c); err != nil || res.DBRestored {
		t.Errorf("%+v, %v", res, err)
	}
	if got := contentsWithWAL(t, s); got != "old,old in the wal" {
		t.Errorf("the database says %q", got)
	}
	assertNoTraces(t, s)
	if res, err := Resume(context.Background(), c); err != nil || res.DBRestored || len(res.Warnings) != 1 {
		t.Errorf("nothing to resume: %+v, %v", res, err)
	}
}

// holdMain maps a file, closes it, and waits for the end of its input.
func holdMain(input []byte) error {
	var path string
	if err := json.Unmarshal(input, &path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return err
	}
	os.Stdout.Write([]byte("."))
	_, _ = os.Stdin.Read(make([]byte, 1))
	return nil
}

// contentsWithWAL reads a copy of the live database together with its -wal.
func contentsWithWAL(t *testing.T, s scene) string {
	t.Helper()
	store, err := snapshot.Open(filepath.Join(s.base, "look"))
	if err != nil {
		t.Fatal(err)
	}
	snap, err := store.Take(
		context.Background(),
		snapshot.Sources{DB: s.live().DB},
		snapshot.TakeOptions{Kind: snapshot.Manual, Host: "h"},
	)
	if err != nil {
		t.Fatal(err)
	}
	return contents(t, filepath.Join(snap.Path, "db/atocore.db"))
}
