package restore

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// stranger is the application's user in these tests.
const stranger = 1000

// victim is a directory of root's that nothing here may touch.
func victim(t *testing.T) (dir string, untouched func()) {
	t.Helper()
	dir = filepath.Join(scratch(t), "victim")
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "shadow"), []byte("root's"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	before := fsxtest.State(t, dir)
	return dir, func() {
		t.Helper()
		if after := fsxtest.State(t, dir); after != before {
			t.Errorf("the victim was\n%s\nand is\n%s", before, after)
		}
	}
}

// The application puts a link where a live directory or file was: nothing behind
// it is emptied, overwritten or given away.
func TestHostileLivePaths(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, which := range []string{snapshot.Chroma, snapshot.DB, snapshot.Registry, "the directory of the database"} {
		t.Run(which, func(t *testing.T) {
			s := newScene(t)
			dir, untouched := victim(t)
			path, to := s.live().path(which), dir
			switch which {
			case snapshot.DB, snapshot.Registry:
				to = filepath.Join(dir, "shadow")
			case snapshot.Chroma:
			default:
				path = filepath.Dir(s.live().DB)
			}
			err := errors.Join(os.Chown(filepath.Dir(path), stranger, stranger), os.Rename(path, path+".aside"),
				os.Symlink(to, path), os.Lchown(path, stranger, stranger))
			if err != nil {
				t.Fatal(err)
			}
			r := s.mustRequest(t)
			r.NoPreSnapshot = true
			_, err = Run(context.Background(), r)
			if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "symbolic link") {
				t.Errorf("got %v", err)
			}
			untouched()
		})
	}
}

// While a restore runs, the application exchanges the workspace in its directory
// for a link to the victim, as fast as it can.
func TestHostileWorkspace(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	dir, untouched := victim(t)
	r := s.mustRequest(t)
	r.NoPreSnapshot = true
	live := filepath.Dir(s.live().DB)
	if err := os.Chown(live, stranger, stranger); err != nil {
		t.Fatal(err)
	}
	work := workDir(live, r.Stamp)
	var stop atomic.Bool
	var exchanged atomic.Int64
	var hostile sync.WaitGroup
	hostile.Go(func() {
		for !stop.Load() {
			if os.Rename(work, live+"/stolen") == nil {
				_ = os.Symlink(dir, work)
				exchanged.Add(1)
				_ = os.Remove(work)
				_ = os.Rename(live+"/stolen", work)
			}
			_ = os.RemoveAll(live + "/stolen")
		}
	})
	done := 0
	for range 20 {
		if _, err := Run(context.Background(), r); err == nil {
			done++
		} else if _, err := Abort(context.Background(), resumeOptions(r.Store)); err != nil {
			// It took what was staged away: that is its own data.
			_ = os.Remove(journalPath(s.backups()))
			_ = os.RemoveAll(work)
		}
		untouched()
	}
	stop.Store(true)
	hostile.Wait()
	t.Logf("%d restores were done while the workspace was exchanged %d times", done, exchanged.Load())
	if exchanged.Load() == 0 {
		t.Error("no race")
	}
}

// A manifest that claims a root-owned setuid file where nothing stands.
func TestForgedManifestMakesNoRootProgram(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	r := s.mustRequest(t)
	r.NoPreSnapshot, r.AllowInvalid = true, true
	manifest := filepath.Join(r.Store.Path(r.Stamp), snapshot.ManifestFile)
	data, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, f := range m["files"].([]any) {
		f.(map[string]any)["uid"], f.(map[string]any)["gid"], f.(map[string]any)["mode"] = 0, 0, 0o6755
	}
	if data, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	live := s.live()
	err = errors.Join(
		os.Chmod(manifest, 0o600),
		os.WriteFile(manifest, data, 0o600),
		os.RemoveAll(
			live.Chroma,
		),
		os.Mkdir(live.Chroma, 0o755),
		os.Chown(live.Chroma, stranger, stranger),
		os.Chown(filepath.Dir(live.DB), stranger, stranger),
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(fsxtest.State(t, live.Chroma), "\n") {
		if strings.Contains(line, "0:0") || strings.HasPrefix(line, "u") || strings.HasPrefix(line, "g") {
			t.Errorf("restored: %s", line)
		}
	}
}

// A journal of somebody else's holds takes, and is never acted on.
func TestForgedJournal(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	dir, untouched := victim(t)
	r := s.mustRequest(t)
	state := stateOf(s.backups())
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(at string, j Journal, uid int) {
		t.Helper()
		path := filepath.Join(at, JournalFile)
		data, err := json.Marshal(j)
		if err := errors.Join(err, os.WriteFile(path, data, 0o600), os.Chown(path, uid, uid)); err != nil {
			t.Fatal(err)
		}
	}
	forged := Journal{Schema: journalSchema, Phase: PhaseAborted, Stamp: r.Stamp, Workspaces: []string{dir}}
	for name, c := range map[string]struct {
		at  string
		uid int
	}{"in the state directory": {state, stranger}, "beside the backups": {s.backups(), stranger}} {
		t.Run(name, func(t *testing.T) {
			write(c.at, forged, c.uid)
			defer os.Remove(filepath.Join(c.at, JournalFile))
			if err := placeOf(s.backups()).RefusePending(); failure.KindOf(err) != failure.Refused {
				t.Errorf("it holds nothing: %v", err)
			}
			for _, end := range []func(context.Context, ResumeOptions) (Result, error){Resume, Abort} {
				_, err := end(context.Background(), resumeOptions(r.Store))
				if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "belongs to uid 1000") {
					t.Errorf("got %v", err)
				}
			}
			untouched()
		})
	}
	// Root's own never removes what is no workspace.
	write(state, forged, 0)
	if _, err := Abort(context.Background(), resumeOptions(r.Store)); err == nil ||
		!strings.Contains(err.Error(), "is not one that a restore makes") {
		t.Errorf("got %v", err)
	}
	untouched()
	_ = os.Remove(filepath.Join(state, JournalFile))
	// Beside the backups it counts only where nobody else could have put it.
	write(s.backups(), Journal{Schema: journalSchema, Phase: PhaseAborted, Stamp: r.Stamp}, 0)
	if err := os.Chmod(s.backups(), 0o777); err != nil {
		t.Fatal(err)
	}
	c := resumeOptions(r.Store)
	if _, err := Abort(context.Background(), c); failure.KindOf(err) != failure.Refused {
		t.Errorf("beside shared backups: %v", err)
	}
	c.TrustBackupDir = true
	if _, err := Abort(context.Background(), c); err != nil {
		t.Errorf("trusted: %v", err)
	}
}
