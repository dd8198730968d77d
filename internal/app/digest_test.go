package app

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
)

// The digest says how things stand, with the figures of the week, and is a run of
// its own.
func TestDigest(t *testing.T) {
	t.Parallel()
	_, a, stamp := newOpened(t, "")
	now := time.Now()
	if err := a.history.AddPush(t.Context(), history.Push{Target: "disk", Stamp: string(stamp), Push: string(stamp),
		Seq: 1, Bytes: 3 << 20, At: now.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := a.history.AddPush(t.Context(), history.Push{Target: "disk", Stamp: "20250101T060000Z", Push: "old",
		Seq: 2, Bytes: 9 << 20, At: now.Add(-30 * 24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	var said []notify.Message
	say := func(m notify.Message) error {
		said = append(said, m)
		return nil
	}
	if err := a.Digest(t.Context(), now, now, say); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"You can restore to " + health.Clock(stamp.Time()),
		"Here: 1 snapshot, 1 of them valid",
		"On disk: 0 snapshots, nothing yet, 1 behind; 3072 KiB sent in 7 days", "Look: atobackupd status"} {
		if !strings.Contains(said[0].Body, want) {
			t.Errorf("%q is not in %s", want, said[0].Body)
		}
	}
	if !strings.HasPrefix(said[0].Title, "atobackupd on dalidou: ") || said[0].Level == notify.Critical {
		t.Errorf("%s, %v", said[0].Title, said[0].Level)
	}
	// Damage makes it critical, and the title says so.
	a.noteValidation(t.Context(), stamp, false, []string{"torn"}, "scrub")
	if err := a.Digest(t.Context(), now, now, say); err != nil {
		t.Fatal(err)
	}
	if m := said[1]; m.Level != notify.Critical || !strings.Contains(m.Title, "not all is well") ||
		!strings.Contains(m.Body, "There is nothing to restore to") {
		t.Errorf("%+v", m)
	}
	run, found, err := a.history.LastRun(t.Context(), DigestJob)
	if err != nil || !found || run.Outcome != history.OK {
		t.Errorf("%+v, %v", run, err)
	}
	if err := a.Digest(t.Context(), now, now, func(notify.Message) error {
		return &failure.Error{Op: "notify", Err: errors.New("no address takes it")}
	}); err == nil || !strings.Contains(err.Error(), "no address takes it") {
		t.Errorf("%v", err)
	}
	if run, _, err = a.history.LastRun(t.Context(), DigestJob); err != nil || run.Outcome != history.Failed {
		t.Errorf("%+v, %v", run, err)
	}
}

// What a digest sums up: ended runs of the last week, and what was sent in it.
func TestLately(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, r := range []struct {
		job     string
		days    int
		outcome history.Outcome
	}{
		{"backup", 1, history.OK}, {"backup", 6, history.Failed}, {"backup", 8, history.OK},
		{DaemonJob, 2, history.OK}, {"sync:disk", 0, history.Running}, {"scrub", 3, history.Interrupted},
	} {
		record(t, a, history.Run{Job: r.job, StartedAt: noon.AddDate(0, 0, -r.days), Outcome: r.outcome})
	}
	for i, days := range []int{1, 6, 8} {
		if err := a.history.AddPush(t.Context(), history.Push{Target: "disk", Stamp: "20260401T060000Z",
			Push: string(rune('a' + i)), Seq: int64(i + 1), Bytes: 100, At: noon.AddDate(0, 0, -days)}); err != nil {
			t.Fatal(err)
		}
	}
	l := a.lately(t.Context(), noon)
	var jobs []string
	for _, run := range l.Runs {
		jobs = append(jobs, run.Job)
	}
	if got := strings.Join(jobs, " "); len(jobs) != 3 || strings.Contains(got, DaemonJob) || l.Sent["disk"] != 200 {
		t.Errorf("%q, %v", got, l.Sent)
	}
}

// When the digest is sent.
func TestDigestCron(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, test := range []struct {
		zone, expression, next, errorText string
	}{
		{"UTC", "", "", ""},
		{"UTC", "0 8 * * 1", "2026-04-13T08:00:00Z", ""},
		{"Europe/Berlin", "0 8 * * 1", "2026-04-13T06:00:00Z", ""},
		{"UTC", "mondays", "", "notify.digest"},
		{"Mars/Olympus", "0 8 * * 1", "", "schedule.timezone"},
	} {
		a.Config.Schedule.Timezone, a.Config.Notify.Digest = test.zone, test.expression
		cron, err := DigestCron(a.Config)
		if (err != nil) != (test.errorText != "") || err != nil && !strings.Contains(err.Error(), test.errorText) {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		if (cron != nil) != (test.next != "") {
			t.Errorf("%+v: %v", test, cron)
			continue
		}
		if cron == nil {
			continue
		}
		if got := cron.Upcoming(noon, noon, 1)[0].UTC().Format(time.RFC3339); got != test.next {
			t.Errorf("%+v: %s", test, got)
		}
	}
}
