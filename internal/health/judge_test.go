package health

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// ended makes a run that ended at a time.
func ended(job string, at time.Time, outcome Outcome, detail RunDetail) Run {
	data, err := json.Marshal(detail)
	if err != nil {
		panic(err)
	}
	run := Run{ID: 1, Job: job, StartedAt: at, FinishedAt: at, Outcome: outcome, Detail: data}
	if outcome != OK {
		run.Error = "because"
	}
	return run
}

// The table of when a leg is bad. Limits are 26 hours for snapshot, 8 days for
// a target, 100 days for drill; it is noon.
func TestJudge(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	snapshotLeg := WatchedLeg{Name: LegSnapshot, Limit: 26 * hour, Runs: "backup", Holds: true, Stale: LevelCritical}
	target := WatchedLeg{Name: "offsite:laptop", Limit: 8 * day, Runs: "sync:laptop", Stale: LevelCritical}
	prune := WatchedLeg{Name: LegPrune, Limit: 26 * hour, Runs: "prune", Stale: LevelCritical}
	drill := WatchedLeg{Name: LegDrill, Limit: 100 * day, Runs: "drill", Stale: LevelWarning}
	success := func(at time.Time) Leg { return Leg{LastSuccess: at, LastAttempt: at} }
	failedSince := func(at time.Time) Leg {
		return Leg{LastSuccess: at, LastAttempt: ago(hour), LastError: "because"}
	}
	alarm := &Alarm{Leg: "offsite:laptop", Since: ago(2 * hour), Level: LevelCritical, Message: "auth_failed"}
	skipped := ended("sync:laptop", ago(hour), Skipped, RunDetail{Failure: "unreachable"})

	tests := []struct {
		name      string
		LegInputs LegInputs
		level     string
		quiet     bool
		text      string // part of the message
	}{
		{"never ran, no daemon", LegInputs{WatchedLeg: snapshotLeg}, LevelWarning, true, "neither did the daemon"},
		{"installed an hour ago", LegInputs{WatchedLeg: snapshotLeg, Since: ago(hour)}, LevelOK, false, "its first time has not come"},
		{"never ran, at the limit", LegInputs{WatchedLeg: snapshotLeg, Since: ago(26 * hour)}, LevelOK, false, ""},
		{"never ran, past the limit", LegInputs{WatchedLeg: snapshotLeg, Since: ago(26*hour + 1)}, LevelCritical, false, "no success since 2026-04-06 09:59 UTC, for more than 26 hours"},
		{"fresh", LegInputs{WatchedLeg: snapshotLeg, Seen: success(ago(hour)), Newest: ago(hour)}, LevelOK, false, ""},
		{"at the limit", LegInputs{WatchedLeg: snapshotLeg, Seen: success(ago(hour)), Newest: ago(26 * hour)}, LevelOK, false, ""},
		{"past the limit", LegInputs{WatchedLeg: snapshotLeg, Seen: success(ago(hour)), Newest: ago(26*hour + 1)}, LevelCritical, false, "more than 26 hours ago"},
		{"all snapshots are gone", LegInputs{WatchedLeg: snapshotLeg, Seen: success(ago(hour))}, LevelCritical, false, "no valid snapshot any more"},
		{"the history was lost, the snapshots are there", LegInputs{WatchedLeg: snapshotLeg, Since: ago(hour), Newest: ago(6 * hour)}, LevelOK, false, ""},
		{"the disk is gone", LegInputs{WatchedLeg: snapshotLeg, Err: errors.New("no such directory")}, LevelCritical, false, "no such directory"},

		{"failed, retries to come", LegInputs{WatchedLeg: snapshotLeg, Seen: failedSince(ago(25 * hour)), Newest: ago(25 * hour),
			Last: ended("backup", ago(time.Minute), Failed, RunDetail{Daemon: true, RetryAt: ago(-4 * time.Minute)})}, LevelWarning, true, "tried again at 2026-04-07 12:04 UTC: because"},
		{"failed, being retried", LegInputs{WatchedLeg: snapshotLeg, Running: true, Seen: failedSince(ago(25 * hour)), Newest: ago(25 * hour),
			Last: ended("backup", ago(hour), Failed, RunDetail{Daemon: true, RetryAt: ago(50 * time.Minute)})}, LevelWarning, true, "being tried again"},
		{"failed, and the retry never came", LegInputs{WatchedLeg: snapshotLeg, Seen: failedSince(ago(25 * hour)), Newest: ago(25 * hour),
			Last: ended("backup", ago(hour), Failed, RunDetail{Daemon: true, RetryAt: ago(10 * time.Minute)})}, LevelCritical, false, "because"},
		{"failed for good", LegInputs{WatchedLeg: snapshotLeg, Seen: failedSince(ago(25 * hour)), Newest: ago(25 * hour),
			Last: ended("backup", ago(hour), Failed, RunDetail{Daemon: true})}, LevelCritical, false, "because"},
		{"ran too long", LegInputs{WatchedLeg: snapshotLeg, Seen: failedSince(ago(25 * hour)), Newest: ago(25 * hour),
			Last: ended("backup", ago(hour), TimedOut, RunDetail{Failure: "timeout"})}, LevelCritical, false, "because"},
		{"failed, then went well", LegInputs{WatchedLeg: snapshotLeg, Seen: success(ago(time.Minute)), Newest: ago(time.Minute),
			Last: ended("backup", ago(hour), Failed, RunDetail{})}, LevelOK, false, ""},
		{"found the lock taken, by hand", LegInputs{WatchedLeg: snapshotLeg, Seen: failedSince(ago(2 * hour)), Newest: ago(2 * hour),
			Last: ended("backup", ago(hour), Failed, RunDetail{Failure: "locked"})}, LevelOK, false, "because"},
		{"found the lock taken, all retries of the daemon", LegInputs{WatchedLeg: snapshotLeg, Seen: failedSince(ago(2 * hour)), Newest: ago(2 * hour),
			Last: ended("backup", ago(hour), Failed, RunDetail{Failure: "locked", Daemon: true})}, LevelCritical, false, "because"},
		{"a slip of the fingers", LegInputs{WatchedLeg: snapshotLeg, Seen: failedSince(ago(2 * hour)), Newest: ago(2 * hour),
			Last: ended("backup", ago(hour), Failed, RunDetail{Failure: "usage"})}, LevelOK, false, "because"},
		{"interrupted", LegInputs{WatchedLeg: snapshotLeg, Seen: success(ago(2 * hour)), Newest: ago(2 * hour),
			Last: ended("backup", ago(hour), Interrupted, RunDetail{})}, LevelOK, false, ""},

		{"unreachable", LegInputs{WatchedLeg: target, Seen: failedSince(ago(7 * day)), Newest: ago(7 * day), Last: skipped}, LevelOK, false, "because"},
		{"unreachable for too long", LegInputs{WatchedLeg: target, Seen: failedSince(ago(9 * day)), Newest: ago(9 * day), Last: skipped}, LevelCritical, false, "more than 8 days ago: because"},
		{"reached, and has nothing new", LegInputs{WatchedLeg: target, Seen: success(ago(hour)), Newest: ago(9 * day)}, LevelCritical, false, "newest snapshot is of 2026-03-29"},
		{"never reached", LegInputs{WatchedLeg: target, Since: ago(9 * day), Seen: Leg{LastAttempt: ago(hour), LastError: "because"}, Last: skipped}, LevelCritical, false, "because"},
		{"key refused", LegInputs{WatchedLeg: target, Seen: failedSince(ago(day)), Newest: ago(day), Last: ended("sync:laptop", ago(hour), Failed, RunDetail{Failure: "auth_failed"})}, LevelCritical, false, "because"},
		{"key refused, then asleep", LegInputs{WatchedLeg: target, Seen: failedSince(ago(day)), Newest: ago(day), Last: skipped, Open: alarm}, LevelCritical, false, "auth_failed"},
		{"key refused, then well, then asleep", LegInputs{WatchedLeg: target, Seen: failedSince(ago(90 * time.Minute)), Newest: ago(90 * time.Minute), Last: skipped, Open: alarm}, LevelOK, false, "because"},

		{"prune is held", LegInputs{WatchedLeg: prune, Seen: failedSince(ago(day)), Last: ended("prune", ago(hour), Failed, RunDetail{Failure: "error"})}, LevelCritical, false, "because"},
		{"prune found the lock taken", LegInputs{WatchedLeg: prune, Seen: failedSince(ago(day)), Last: ended("prune", ago(hour), Failed, RunDetail{Failure: "locked", Daemon: true})}, LevelOK, false, "because"},
		{"the disk was gone and is back", LegInputs{WatchedLeg: snapshotLeg, Seen: success(ago(5 * hour)), Newest: ago(5 * hour),
			Last: ended("backup", ago(5*hour), OK, RunDetail{}), Open: alarm}, LevelOK, false, ""},
		{"drill overdue", LegInputs{WatchedLeg: drill, Seen: success(ago(101 * day))}, LevelWarning, false, "more than 100 days ago"},
		{"drill failed", LegInputs{WatchedLeg: drill, Seen: failedSince(ago(day)), Last: ended("drill", ago(hour), Failed, RunDetail{Failure: "invalid"})}, LevelCritical, false, "because"},
		{"a success of tomorrow", LegInputs{WatchedLeg: prune, Seen: success(ago(-day))}, LevelWarning, false, "has not come yet: check the clock"},
		{"a clock that was a little fast", LegInputs{WatchedLeg: prune, Seen: success(ago(-hour))}, LevelOK, false, ""},
	}
	for _, test := range tests {
		got := Judge(test.LegInputs, noon)
		if got.Level != test.level || got.Quiet != test.quiet || !strings.Contains(got.Message, test.text) {
			t.Errorf("%s: %+v, want %s, quiet %v, %q", test.name, got, test.level, test.quiet, test.text)
		}
	}
}

func TestLedger(t *testing.T) {
	bad := func(names ...string) (list []Finding) {
		for _, name := range names {
			list = append(list, Finding{name, LevelCritical, "message"})
		}
		return list
	}
	var l Alarms
	l, c := l.Update(bad("a", "b", "c"), noon)
	if len(c.Fresh) != 3 || len(l.Pending(noon).Bad) != 3 {
		t.Fatalf("three legs turned bad: %+v", c)
	}
	_, body := l.Pending(noon).Message("host")
	if strings.Count(body, "CRITICAL") != 3 {
		t.Fatalf("one message tells all: %q", body)
	}
	l = l.MarkSent(l.Pending(noon), noon)
	for i := range l.Open {
		l.Open[i].ID = int64(i + 1)
	}
	l, c = l.Update(bad("a", "b", "c"), noon.Add(time.Hour))
	if len(c.Raised)+len(c.Resolved) != 0 || !l.Pending(noon.Add(time.Hour)).Empty() {
		t.Fatalf("nothing changed, and there is news: %+v", c)
	}
	if n := l.Pending(noon.Add(24*time.Hour - 1)); !n.Empty() {
		t.Fatalf("a reminder before its time: %+v", n)
	}
	if n := l.Pending(noon.Add(24 * time.Hour)); len(n.Still) != 3 {
		t.Fatalf("no reminder after a day: %+v", n)
	}
	if n := l.Pending(noon.Add(-25 * time.Hour)); len(n.Still) != 3 {
		t.Fatalf("a clock that was put back silences it: %+v", n)
	}
	l, c = l.Update(bad("b"), noon.Add(2*time.Hour))
	n := l.Pending(noon.Add(2 * time.Hour))
	if len(c.Resolved) != 2 || len(n.Recovered) != 2 || len(n.Bad)+len(n.Still) != 0 {
		t.Fatalf("two recovered: %+v, %+v", c, n)
	}
	if l = l.MarkSent(n, noon.Add(2*time.Hour)); !l.Pending(noon.Add(2 * time.Hour)).Empty() {
		t.Fatal("a recovery is told twice")
	}
	// An alarm that comes and goes before anybody heard of it is no news.
	l, _ = l.Update(bad("b", "d"), noon.Add(3*time.Hour))
	l, _ = l.Update(bad("b"), noon.Add(4*time.Hour))
	if n := l.Pending(noon.Add(4 * time.Hour)); !n.Empty() {
		t.Fatalf("news of what nobody knew: %+v", n)
	}
}

func TestLedgerTellsThatItGotWorse(t *testing.T) {
	l, _ := Alarms{}.Update([]Finding{{"drill", LevelWarning, "overdue"}}, noon)
	l = l.MarkSent(l.Pending(noon), noon)
	l, c := l.Update([]Finding{{"drill", LevelCritical, "failed"}}, noon.Add(time.Hour))
	if n := l.Pending(noon.Add(time.Hour)); len(n.Bad) != 1 || len(c.Raised) != 1 || len(c.Fresh) != 0 {
		t.Fatalf("a warning that became critical: %+v, %+v", n, c)
	}
}
