package app

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// While a restore is unfinished nothing is taken, pruned or swept, every mouth says
// so, and readers go on.
func TestPendingRestoreHoldsTheJobs(t *testing.T) {
	t.Parallel()
	h, a, stamp := newOpened(t, "")
	if err := a.CheckNoPendingRestore(); err != nil {
		t.Fatal(err)
	}
	h.write("state/restore-journal.json", `{"stamp": "20260407T060000Z", "phase": "swapping"}`)
	if err := os.MkdirAll(h.path("backups/staging/20260101T000000Z.12345"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, job := range map[string]func() error{
		"take": func() error {
			_, err := a.Backup(t.Context(), snapshot.Manual, false, time.Time{})
			return err
		},
		"prune": func() error {
			_, err := a.Prune(t.Context(), time.Now(), false, false)
			return err
		},
		"repair": func() error {
			_, err := a.Repair(t.Context(), time.Now(), RepairRequest{})
			return err
		},
	} {
		if err := job(); failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "restore") {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.Sweep()
	if _, err := os.Lstat(h.path("backups/staging/20260101T000000Z.12345")); err != nil {
		t.Errorf("what the restore may need was swept: %v", err)
	}
	if s, err := a.Find(t.Context(), "latest", time.Now()); err != nil || s.Stamp != stamp {
		t.Errorf("a reader: %v, %v", s.Stamp, err)
	}
	if r := a.Report(t.Context(), time.Now()); !hasCondition(r.Conditions, "restore_pending") {
		t.Errorf("%+v", r.Conditions)
	}
	h.remove("state/restore-journal.json")
	h.backup(a)
	if _, err := os.Lstat(h.path("backups/staging/20260101T000000Z.12345")); err == nil {
		t.Error("the next take swept nothing")
	}
}

// A process that is killed while it writes a document leaves a temporary. The next
// take removes it once nobody can be writing it.
func TestSweepRemovesTemporaries(t *testing.T) {
	t.Parallel()
	h, a, _ := newOpened(t, "")
	hours := map[string]time.Duration{
		"state/.life.json.123": 0, "state/.published.json.456": 2, "backups/.findings.json.789": 2,
	}
	for name, age := range hours {
		h.write(name, "{}")
		when := time.Now().Add(-age * time.Hour)
		if err := os.Chtimes(h.path(name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	h.backup(a)
	for name, age := range hours {
		if _, err := os.Lstat(h.path(name)); (err == nil) != (age == 0) {
			t.Errorf("%s, %d hours old: %v", name, age, err)
		}
	}
}

// A sweep removes only what this program makes, and names the rest.
func TestSweepNamesStrangers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	var log bytes.Buffer
	a.Options.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, name := range []string{"20260101T000000Z.12345", "holiday-photos"} {
		if err := os.MkdirAll(h.path("backups/staging/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a.Sweep()
	if _, err := os.Lstat(h.path("backups/staging/holiday-photos")); err != nil {
		t.Errorf("somebody's files: %v", err)
	}
	if _, err := os.Lstat(h.path("backups/staging/20260101T000000Z.12345")); err == nil {
		t.Error("what a crash left is there still")
	}
	for _, want := range []string{"name=20260101T000000Z.12345", "staging/holiday-photos", "left alone"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in %s", want, log.String())
		}
	}
}
