package daemon

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/history"
)

var noon = time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// ended makes a run that ended at a time.
func ended(job string, at time.Time, outcome history.Outcome, detail runDetail) history.Run {
	data, err := json.Marshal(detail)
	if err != nil {
		panic(err)
	}
	run := history.Run{ID: 1, Job: job, StartedAt: at, FinishedAt: at, Outcome: outcome, Detail: data}
	if outcome != history.OK {
		run.Error = "because"
	}
	return run
}

// The table of when a leg is bad. Limits are 26 hours for snapshot, 8 days for
// a target, 100 days for drill; it is noon.
func TestJudge(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	snapshotLeg := leg{name: legSnapshot, limit: 26 * hour, runs: "backup", holds: true, stale: LevelCritical}
	target := leg{name: "offsite:laptop", limit: 8 * day, runs: "sync:laptop", stale: LevelCritical}
	prune := leg{name: legPrune, limit: 26 * hour, runs: "prune", stale: LevelCritical}
	drill := leg{name: legDrill, limit: 100 * day, runs: "drill", stale: LevelWarning}
	success := func(at time.Time) history.Leg { return history.Leg{LastSuccess: at, LastAttempt: at} }
	failedSince := func(at time.Time) history.Leg {
		return history.Leg{LastSuccess: at, LastAttempt: ago(hour), LastError: "because"}
	}
	alarm := &history.Alarm{Leg: "offsite:laptop", Since: ago(2 * hour), Level: LevelCritical, Message: "auth_failed"}
	skipped := ended("sync:laptop", ago(hour), history.Skipped, runDetail{Failure: "unreachable"})

	tests := []struct {
		name  string
		facts facts
		level string
		quiet bool
		text  string // part of the message
	}{
		{"never ran, no daemon", facts{leg: snapshotLeg}, LevelWarning, true, "neither did the daemon"},
		{"installed an hour ago", facts{leg: snapshotLeg, since: ago(hour)}, LevelOK, false, "its first time has not come"},
		{"never ran, at the limit", facts{leg: snapshotLeg, since: ago(26 * hour)}, LevelOK, false, ""},
		{"never ran, past the limit", facts{leg: snapshotLeg, since: ago(26*hour + 1)}, LevelCritical, false, "no success since 2026-04-06 09:59 UTC, for more than 26 hours"},
		{"fresh", facts{leg: snapshotLeg, seen: success(ago(hour)), newest: ago(hour)}, LevelOK, false, ""},
		{"at the limit", facts{leg: snapshotLeg, seen: success(ago(hour)), newest: ago(26 * hour)}, LevelOK, false, ""},
		{"past the limit", facts{leg: snapshotLeg, seen: success(ago(hour)), newest: ago(26*hour + 1)}, LevelCritical, false, "more than 26 hours ago"},
		{"all snapshots are gone", facts{leg: snapshotLeg, seen: success(ago(hour))}, LevelCritical, false, "no valid snapshot any more"},
		{"the history was lost, the snapshots are there", facts{leg: snapshotLeg, since: ago(hour), newest: ago(6 * hour)}, LevelOK, false, ""},
		{"the disk is gone", facts{leg: snapshotLeg, err: errors.New("no such directory")}, LevelCritical, false, "no such directory"},

		{"failed, retries to come", facts{leg: snapshotLeg, seen: failedSince(ago(25 * hour)), newest: ago(25 * hour),
			last: ended("backup", ago(time.Minute), history.Failed, runDetail{Daemon: true, RetryAt: ago(-4 * time.Minute)})}, LevelWarning, true, "tried again at 2026-04-07 12:04 UTC: because"},
		{"failed, being retried", facts{leg: snapshotLeg, running: true, seen: failedSince(ago(25 * hour)), newest: ago(25 * hour),
			last: ended("backup", ago(hour), history.Failed, runDetail{Daemon: true, RetryAt: ago(50 * time.Minute)})}, LevelWarning, true, "being tried again"},
		{"failed, and the retry never came", facts{leg: snapshotLeg, seen: failedSince(ago(25 * hour)), newest: ago(25 * hour),
			last: ended("backup", ago(hour), history.Failed, runDetail{Daemon: true, RetryAt: ago(10 * time.Minute)})}, LevelCritical, false, "because"},
		{"failed for good", facts{leg: snapshotLeg, seen: failedSince(ago(25 * hour)), newest: ago(25 * hour),
			last: ended("backup", ago(hour), history.Failed, runDetail{Daemon: true})}, LevelCritical, false, "because"},
		{"ran too long", facts{leg: snapshotLeg, seen: failedSince(ago(25 * hour)), newest: ago(25 * hour),
			last: ended("backup", ago(hour), history.TimedOut, runDetail{Failure: "timeout"})}, LevelCritical, false, "because"},
		{"failed, then went well", facts{leg: snapshotLeg, seen: success(ago(time.Minute)), newest: ago(time.Minute),
			last: ended("backup", ago(hour), history.Failed, runDetail{})}, LevelOK, false, ""},
		{"found the lock taken, by hand", facts{leg: snapshotLeg, seen: failedSince(ago(2 * hour)), newest: ago(2 * hour),
			last: ended("backup", ago(hour), history.Failed, runDetail{Failure: "locked"})}, LevelOK, false, "because"},
		{"found the lock taken, all retries of the daemon", facts{leg: snapshotLeg, seen: failedSince(ago(2 * hour)), newest: ago(2 * hour),
			last: ended("backup", ago(hour), history.Failed, runDetail{Failure: "locked", Daemon: true})}, LevelCritical, false, "because"},
		{"a slip of the fingers", facts{leg: snapshotLeg, seen: failedSince(ago(2 * hour)), newest: ago(2 * hour),
			last: ended("backup", ago(hour), history.Failed, runDetail{Failure: "usage"})}, LevelOK, false, "because"},
		{"interrupted", facts{leg: snapshotLeg, seen: success(ago(2 * hour)), newest: ago(2 * hour),
			last: ended("backup", ago(hour), history.Interrupted, runDetail{})}, LevelOK, false, ""},

		{"unreachable", facts{leg: target, seen: failedSince(ago(7 * day)), newest: ago(7 * day), last: skipped}, LevelOK, false, "because"},
		{"unreachable for too long", facts{leg: target, seen: failedSince(ago(9 * day)), newest: ago(9 * day), last: skipped}, LevelCritical, false, "more than 8 days ago: because"},
		{"reached, and has nothing new", facts{leg: target, seen: success(ago(hour)), newest: ago(9 * day)}, LevelCritical, false, "newest snapshot is of 2026-03-29"},
		{"never reached", facts{leg: target, since: ago(9 * day), seen: history.Leg{LastAttempt: ago(hour), LastError: "because"}, last: skipped}, LevelCritical, false, "because"},
		{"key refused", facts{leg: target, seen: failedSince(ago(day)), newest: ago(day), last: ended("sync:laptop", ago(hour), history.Failed, runDetail{Failure: "auth_failed"})}, LevelCritical, false, "because"},
		{"key refused, then asleep", facts{leg: target, seen: failedSince(ago(day)), newest: ago(day), last: skipped, open: alarm}, LevelCritical, false, "auth_failed"},
		{"key refused, then well, then asleep", facts{leg: target, seen: failedSince(ago(90 * time.Minute)), newest: ago(90 * time.Minute), last: skipped, open: alarm}, LevelOK, false, "because"},

		{"prune is held", facts{leg: prune, seen: failedSince(ago(day)), last: ended("prune", ago(hour), history.Failed, runDetail{Failure: "error"})}, LevelCritical, false, "because"},
		{"prune found the lock taken", facts{leg: prune, seen: failedSince(ago(day)), last: ended("prune", ago(hour), history.Failed, runDetail{Failure: "locked", Daemon: true})}, LevelOK, false, "because"},
		{"the disk was gone and is back", facts{leg: snapshotLeg, seen: success(ago(5 * hour)), newest: ago(5 * hour),
			last: ended("backup", ago(5*hour), history.OK, runDetail{}), open: alarm}, LevelOK, false, ""},
		{"drill overdue", facts{leg: drill, seen: success(ago(101 * day))}, LevelWarning, false, "more than 100 days ago"},
		{"drill failed", facts{leg: drill, seen: failedSince(ago(day)), last: ended("drill", ago(hour), history.Failed, runDetail{Failure: "invalid"})}, LevelCritical, false, "because"},
		{"a success of tomorrow", facts{leg: prune, seen: success(ago(-day))}, LevelWarning, false, "has not come yet: check the clock"},
		{"a clock that was a little fast", facts{leg: prune, seen: success(ago(-hour))}, LevelOK, false, ""},
	}
	for _, test := range tests {
		got := judge(test.facts, noon)
		if got.level != test.level || got.quiet != test.quiet || !strings.Contains(got.message, test.text) {
			t.Errorf("%s: %+v, want %s, quiet %v, %q", test.name, got, test.level, test.quiet, test.text)
		}
	}
}

func TestLedger(t *testing.T) {
	bad := func(names ...string) (list []verdict) {
		for _, name := range names {
			list = append(list, verdict{name, LevelCritical, "message"})
		}
		return list
	}
	var l ledger
	l, c := l.turn(bad("a", "b", "c"), noon)
	if len(c.fresh) != 3 || len(l.due(noon).bad) != 3 {
		t.Fatalf("three legs turned bad: %+v", c)
	}
	_, body := l.due(noon).message("host")
	if strings.Count(body, "CRITICAL") != 3 {
		t.Fatalf("one message tells all: %q", body)
	}
	l = l.told(l.due(noon), noon)
	for i := range l.open {
		l.open[i].ID = int64(i + 1)
	}
	l, c = l.turn(bad("a", "b", "c"), noon.Add(time.Hour))
	if len(c.raised)+len(c.resolved) != 0 || !l.due(noon.Add(time.Hour)).empty() {
		t.Fatalf("nothing changed, and there is news: %+v", c)
	}
	if n := l.due(noon.Add(24*time.Hour - 1)); !n.empty() {
		t.Fatalf("a reminder before its time: %+v", n)
	}
	if n := l.due(noon.Add(24 * time.Hour)); len(n.still) != 3 {
		t.Fatalf("no reminder after a day: %+v", n)
	}
	if n := l.due(noon.Add(-25 * time.Hour)); len(n.still) != 3 {
		t.Fatalf("a clock that was put back silences it: %+v", n)
	}
	l, c = l.turn(bad("b"), noon.Add(2*time.Hour))
	n := l.due(noon.Add(2 * time.Hour))
	if len(c.resolved) != 2 || len(n.recovered) != 2 || len(n.bad)+len(n.still) != 0 {
		t.Fatalf("two recovered: %+v, %+v", c, n)
	}
	if l = l.told(n, noon.Add(2*time.Hour)); !l.due(noon.Add(2 * time.Hour)).empty() {
		t.Fatal("a recovery is told twice")
	}
	// An alarm that comes and goes before anybody heard of it is no news.
	l, _ = l.turn(bad("b", "d"), noon.Add(3*time.Hour))
	l, _ = l.turn(bad("b"), noon.Add(4*time.Hour))
	if n := l.due(noon.Add(4 * time.Hour)); !n.empty() {
		t.Fatalf("news of what nobody knew: %+v", n)
	}
}

func TestLedgerTellsThatItGotWorse(t *testing.T) {
	l, _ := ledger{}.turn([]verdict{{"drill", LevelWarning, "overdue"}}, noon)
	l = l.told(l.due(noon), noon)
	l, c := l.turn([]verdict{{"drill", LevelCritical, "failed"}}, noon.Add(time.Hour))
	if n := l.due(noon.Add(time.Hour)); len(n.bad) != 1 || len(c.raised) != 1 || len(c.fresh) != 0 {
		t.Fatalf("a warning that became critical: %+v, %+v", n, c)
	}
}
