package app

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/snapshot"
)

// Which signals each job sends: a start only once its lock is held and the other
// side answers, an end for each leg that it counts for, under one run id.
func TestSignalsOfJobs(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	var got []string
	ids := make(map[string]bool)
	a.SetPulse(func(leg string, b notify.Beat) {
		got = append(got, leg+string(b.Signal))
		ids[b.RunID] = true
	})
	lock := func() func() {
		l, err := a.LockNow(t.Context(), "a test")
		if err != nil {
			t.Fatal(err)
		}
		return l.Unlock
	}
	backup := func() error {
		_, err := a.BackupNow(t.Context(), snapshot.Manual, false)
		return err
	}
	sync := func() error { _, err := a.Sync(t.Context(), "", false); return err }
	for _, test := range []struct {
		name string
		do   func() error
		fail bool
		want string
	}{
		{"a take", backup, false, "snapshot/start snapshot"},
		{"a take that finds the lock taken", func() error { defer lock()(); return backup() }, true, ""},
		{"a take without a database", func() error {
			h.move("data/a.db", "data/b.db")
			defer h.move("data/b.db", "data/a.db")
			return backup()
		}, true, "snapshot/start snapshot/fail"},
		{"a sync", sync, false, "offsite:disk/start offsite:disk"},
		{"a sync whose disk is away", func() error {
			h.move("vault", "away")
			defer h.move("away", "vault")
			return sync()
		}, true, "offsite:disk/fail"},
		{"a prune", func() error { _, err := a.Prune(t.Context(), time.Now(), false, false); return err }, false,
			"prune/start prune"},
		{"a scrub", func() error { _, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{}); return err }, false,
			"scrub/start scrub"},
		{"a drill", func() error { _, err := a.Drill(t.Context(), "latest", time.Time{}, ""); return err }, false,
			"drill/start drill"},
		{"a drill of what is not there", func() error {
			_, err := a.Drill(t.Context(), "20000101T000000Z", time.Time{}, "")
			return err
		}, true, ""},
		{"a take that is cut short", func() error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := a.Backup(ctx, snapshot.Manual, false, time.Time{})
			return err
		}, true, "snapshot/start"},
		{"the daemon's job that failed for good", func() error {
			a.JobFailed(health.LegPrune, errors.New("x"), time.Second)
			return errors.New("x")
		}, true, "prune/fail"},
	} {
		got, ids = nil, make(map[string]bool)
		if err := test.do(); (err != nil) != test.fail {
			t.Errorf("%s: %v", test.name, err)
		}
		if text := strings.Join(got, " "); text != test.want || len(ids) > 1 {
			t.Errorf("%s: %q under %d ids, want %q", test.name, text, len(ids), test.want)
		}
	}
}

// The digest is a run like another, and fails where nobody takes it.
func TestDigestIsARun(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Options.Daemon = true
	h.manual(a)
	if _, err := a.Sync(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		err     error
		change  func()
		level   notify.Level
		outcome history.Outcome
		text    string
	}{
		// Of a new installation some legs have not run, which is a warning.
		{"a new installation", nil, func() {}, notify.Warning, history.OK, "1 of backup, 1 of sync"},
		{"nobody takes it", &failure.Error{Op: "notify", Err: errors.New("dead")}, func() {}, notify.Warning,
			history.Failed,
			"On disk: 1 snapshot"},
		{"a restore was interrupted", nil, func() { put(t, h.path("state/restore-journal.json"), "{") },
			notify.Critical,
			history.OK, "CRITICAL restore_pending: "},
	} {
		test.change()
		var told notify.Message
		err := a.Digest(t.Context(), time.Now(), time.Now(), func(m notify.Message) error { told = m; return test.err })
		run, found, runErr := a.history.LastRun(t.Context(), DigestJob)
		if !errors.Is(err, test.err) || runErr != nil || !found || run.Outcome != test.outcome {
			t.Errorf("%s: %v, recorded %+v, %v", test.name, err, run, runErr)
		}
		if told.Level != test.level || !strings.Contains(told.Body, test.text) {
			t.Errorf("%s: %s %q, want %s %q", test.name, told.Level, told.Body, test.level, test.text)
		}
	}
}
