package app

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// When a backup directory is taken for the bare mount point of a disk: without its
// marker, where the history knows of snapshots and none of them is there.
func TestBareMountPoint(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, h *house)
		want bool // refused
	}{
		{"as it is", func(*testing.T, *house) {}, false},
		{"no marker, and the snapshots are there", func(t *testing.T, h *house) {
			h.remove("backups/" + markerFile)
		}, true},
		{"no marker, as an older version left it", func(t *testing.T, h *house) {
			h.remove("backups/"+markerFile, "state/history.db")
		}, false},
		{"no marker and no snapshot", func(t *testing.T, h *house) {
			h.remove("backups/"+markerFile, "backups/snapshots")
		}, true},
		{"the marker and no snapshot", func(t *testing.T, h *house) { h.remove("backups/snapshots") }, false},
		{"an empty directory", func(t *testing.T, h *house) {
			h.remove("backups")
			if err := os.Mkdir(h.path("backups"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"no directory", func(t *testing.T, h *house) { h.remove("backups") }, true},
		{"nothing, and no history that knows better", func(t *testing.T, h *house) {
			h.remove("backups", "state")
			if err := os.Mkdir(h.path("backups"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "")
			a := h.open()
			h.backup(a)
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			test.make(t, h)
			before := fsxtest.Tree(t, h.dir+"/.")
			a = h.open()
			defer a.Close()
			err := a.checkMount(t.Context())
			if !test.want {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Lstat(h.path("backups/" + markerFile)); err != nil {
					t.Errorf("no marker was made: %v", err)
				}
				return
			}
			if failure.KindOf(err) != failure.Refused || !strings.Contains(failure.HintOf(err), "accept backup-dir") {
				t.Errorf("%v", err)
			}
			_, err = a.Backup(t.Context(), snapshot.Daily, false, time.Time{})
			if failure.KindOf(err) != failure.Refused {
				t.Errorf("a take: %v", err)
			}
			if _, err := a.Prune(t.Context(), time.Now(), false, false); failure.KindOf(err) != failure.Refused {
				t.Errorf("a prune: %v", err)
			}
			if r := a.Report(t.Context(), time.Now()); r.Level != "critical" || !hasCondition(r.Conditions, "mount") {
				t.Errorf("%s, %+v", r.Level, r.Conditions)
			}
			for line := range strings.Lines(fsxtest.Tree(t, h.dir+"/.")) {
				if strings.HasPrefix(line, "backups/") && !strings.Contains(before, line) {
					t.Errorf("made on the bare mount point: %s", line)
				}
			}
			// The operator knows better.
			if err := a.AcceptBackupDir(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := a.checkMount(t.Context()); err != nil {
				t.Errorf("after it was accepted: %v", err)
			}
			h.backup(a)
		})
	}
}

func (h *house) remove(names ...string) {
	h.t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(h.path(name)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// The snapshots that the history knows are those that were taken and went well.
func TestKnownStamps(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	one, two := h.backup(a), h.backup(a)
	a.Config.AtoCore.DBPath = h.path("data/none.db")
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err == nil {
		t.Fatal("a take of nothing went well")
	}
	known, err := a.knownStamps(t.Context())
	if err != nil || len(known) != 2 || known[0] != two.Stamp || known[1] != one.Stamp {
		t.Errorf("%v, %v", known, err)
	}
}

// The marker is made once and says what it is for.
func TestMark(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	text, err := os.ReadFile(a.markerPath())
	if err != nil || !strings.Contains(string(text), "backup directory of atobackupd") {
		t.Errorf("%q, %v", text, err)
	}
	h.write("backups/"+markerFile, "mine\n"+string(text))
	if err := a.mark(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(a.markerPath()); err != nil || !strings.HasPrefix(string(text), "mine\n") {
		t.Errorf("it was written over: %q, %v", text, err)
	}
}
