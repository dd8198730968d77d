package app

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// lived is an installation in which everything was done once.
func lived(t *testing.T) *house {
	t.Helper()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	h.backup(a)
	if _, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Prune(t.Context(), time.Now(), false, false); err != nil {
		t.Fatal(err)
	}
	return h
}

// numbers returns those of the marker and of the history, as they lie on disk.
func (h *house) numbers(a *App) (marked, noted int64) {
	h.t.Helper()
	marked, err := a.markedID()
	if err != nil {
		h.t.Fatal(err)
	}
	if noted, err = a.history.BackupDir(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return marked, noted
}

// unmark leaves the marker as an older version made it.
func (h *house) unmark() { h.write("backups/"+markerFile, markerText) }

// unpair leaves the history as an older version made it.
func (h *house) unpair() {
	h.t.Helper()
	db, err := sql.Open("sqlite", h.path("state/history.db"))
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = db.Exec("DELETE FROM meta WHERE name = 'backup_dir'")
	if err := errors.Join(err, db.Close()); err != nil {
		h.t.Fatal(err)
	}
}

// The marker and the history come by one number, whichever of them has none: with the
// first use, an upgrade, a history that was started over, a marker that was removed.
// Nobody hears of it, and what is remembered stays.
func TestMarkerAndHistoryArePaired(t *testing.T) {
	for _, test := range []struct {
		name        string
		make        func(h *house)
		same, anew  bool // the number stays; another is drawn
		startedOver bool
	}{
		{name: "as it is", make: func(*house) {}, same: true},
		{name: "an upgrade", make: func(h *house) { h.unmark(); h.unpair() }, anew: true},
		{name: "a marker of an older version", make: func(h *house) { h.unmark() }, same: true},
		{name: "a history of an older version", make: func(h *house) { h.unpair() }, same: true},
		{name: "a number that is none", make: func(h *house) {
			h.write("backups/"+markerFile, markerText+markerID+"-- \n")
		}, same: true},
		{name: "the history is gone", make: func(h *house) { h.remove("state/history.db") }, same: true,
			startedOver: true},
		{name: "both are gone", make: func(h *house) {
			h.remove("state/history.db", "backups/"+markerFile)
		}, anew: true, startedOver: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := lived(t)
			a := h.open()
			before, noted := h.numbers(a)
			if before == 0 || before != noted {
				t.Fatalf("at first: %x and %x", before, noted)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			test.make(h)
			a = h.open()
			defer a.Close()
			marked, noted := h.numbers(a)
			if marked == 0 || marked != noted || test.same && marked != before || test.anew && marked == before {
				t.Errorf("%x before, then %x and %x", before, marked, noted)
			}
			facts, _ := a.Facts(t.Context(), time.Now())
			if got := facts.History; got.Foreign || got.TookForeign || got.StartedOver.IsZero() == test.startedOver {
				t.Errorf("%+v", got)
			}
			if left, _ := filepath.Glob(h.path("state/history.db.*")); len(left) > 0 {
				t.Errorf("moved aside: %v", left)
			}
			for _, leg := range facts.Legs {
				if leg.Name == health.LegScrub && leg.LastSuccess.IsZero() != test.startedOver {
					t.Errorf("the scrub is remembered from %v", leg.LastSuccess)
				}
			}
		})
	}
}

// A running daemon pairs a directory whose disk was mounted after its start.
func TestPairedOnceItIsMounted(t *testing.T) {
	t.Parallel()
	h := lived(t)
	h.unmark()
	h.move("backups", "away")
	a := h.open()
	defer a.Close()
	a.Report(t.Context(), time.Now())
	if _, err := os.Lstat(h.path("backups")); err == nil {
		t.Error("it was made")
	}
	h.move("away", "backups")
	a.Report(t.Context(), time.Now())
	if marked, noted := h.numbers(a); marked == 0 || marked != noted {
		t.Errorf("%x and %x", marked, noted)
	}
}

// What the history of another backup directory says proves nothing, whoever asks; it
// is kept, and only who may do so begins a new one.
func TestHistoryOfAnotherDirectory(t *testing.T) {
	for _, test := range []struct {
		name   string
		open   func(t *testing.T, h *house) *App
		begins bool
	}{
		{"a command", func(_ *testing.T, h *house) *App { return h.open() }, true},
		{"a look", func(t *testing.T, h *house) *App {
			cfg, err := config.Load(h.path("config.toml"))
			if err != nil {
				t.Fatal(err)
			}
			a, err := Open(t.Context(), cfg, Options{Version: "test", Host: "dalidou", ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			return a
		}, false},
		{"a command of another backup.dir while the daemon runs", func(t *testing.T, h *house) *App {
			lock, err := fsx.LockFile(t.Context(), h.path("state/"+lifeLock), "the daemon", 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(lock.Unlock)
			return h.open()
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, other := lived(t), lived(t)
			foreign, err := os.ReadFile(other.path("state/history.db"))
			if err != nil {
				t.Fatal(err)
			}
			h.write("state/history.db", string(foreign))
			a := test.open(t, h)
			defer a.Close()
			facts, _ := a.Facts(t.Context(), time.Now())
			if got := facts.History; got.Foreign == test.begins || got.TookForeign != test.begins || got.WriteError != "" {
				t.Errorf("%+v", got)
			}
			r := health.Judge(facts, time.Now())
			if r.Level != health.LevelCritical || !hasCondition(r.Conditions, health.ConditionHistory) {
				t.Errorf("%s: %+v", r.Level, r.Conditions)
			}
			for _, leg := range facts.Legs {
				if !leg.LastSuccess.IsZero() || leg.Last.ID != 0 {
					t.Errorf("%s: what is remembered of other backups counts: %v", leg.Name, leg.LastSuccess)
				}
			}
			aside, _ := filepath.Glob(h.path("state/history.db.foreign-*"))
			kept := h.path("state/history.db")
			if test.begins && len(aside) == 1 {
				kept = aside[0]
			}
			if runs := runsIn(t, kept); runs == 0 || len(aside) != 0 != test.begins {
				t.Errorf("it was not kept: %v, %d runs in it", aside, runs)
			}
			if !test.begins {
				return
			}
			if marked, noted := h.numbers(a); marked != noted {
				t.Errorf("the new one: %x and %x", marked, noted)
			}
			if _, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{}); err != nil {
				t.Fatal(err)
			}
			if r := a.Report(t.Context(), time.Now()); hasCondition(r.Conditions, health.ConditionHistory) {
				t.Errorf("after a scrub: %+v", r.Conditions)
			}
		})
	}
}

// runsIn returns how many runs a history remembers.
func runsIn(t *testing.T, path string) int {
	t.Helper()
	db, err := history.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	runs, err := db.Runs(t.Context(), "", time.Time{}, 99)
	if err != nil {
		t.Fatal(err)
	}
	return len(runs)
}

// An operator who accepts a new directory takes the history along.
func TestAcceptedDirectoryIsPaired(t *testing.T) {
	t.Parallel()
	h := lived(t)
	a := h.open()
	before, _ := h.numbers(a)
	a.Close()
	h.move("backups", "away")
	if err := os.Mkdir(h.path("backups"), 0o755); err != nil {
		t.Fatal(err)
	}
	a = h.open()
	defer a.Close()
	if err := a.AcceptBackupDir(t.Context()); err != nil {
		t.Fatal(err)
	}
	if marked, noted := h.numbers(a); marked != before || noted != before {
		t.Errorf("%x before, then %x and %x", before, marked, noted)
	}
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
}
