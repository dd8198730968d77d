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

const hour, day = time.Hour, 24 * time.Hour

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
func TestJudgeLeg(t *testing.T) {
	leg := func(base LegFacts, change ...func(*LegFacts)) LegFacts {
		for _, c := range change {
			c(&base)
		}
		return base
	}
	snapshot := LegFacts{Name: LegSnapshot, Limit: 26 * hour, Holds: true, Late: LevelCritical,
		Hint: "atobackupd backup"}
	target := LegFacts{Name: "offsite:laptop", Limit: 8 * day, Follows: true, Late: LevelCritical,
		Hint: "atobackupd sync --target laptop"}
	prune := LegFacts{Name: LegPrune, Limit: 26 * hour, Follows: true, Late: LevelCritical}
	scrub := LegFacts{Name: LegScrub, Limit: 9 * day, Late: LevelCritical}
	drill := LegFacts{Name: LegDrill, Limit: 100 * day, Late: LevelWarning}
	watched := func(d time.Duration) func(*LegFacts) { return func(f *LegFacts) { f.Watched = ago(d) } }
	due := func(d time.Duration) func(*LegFacts) { return func(f *LegFacts) { f.Due = ago(d) } }
	well := func(d time.Duration) func(*LegFacts) {
		return func(f *LegFacts) { f.LastSuccess, f.LastAttempt = ago(d), ago(d) }
	}
	newest := func(d time.Duration) func(*LegFacts) { return func(f *LegFacts) { f.Newest = ago(d) } }
	last := func(d time.Duration, outcome Outcome, detail RunDetail) func(*LegFacts) {
		return func(f *LegFacts) {
			f.Last = ended("job", ago(d), outcome, detail)
			if outcome != OK {
				f.LastAttempt, f.LastError = ago(d), "because"
			}
		}
	}
	failed := func(d time.Duration) func(*LegFacts) { return last(d, Failed, RunDetail{Failure: "error"}) }
	retry := func(d time.Duration) func(*LegFacts) { return func(f *LegFacts) { f.RetryAt = ago(d) } }
	off := func(f *LegFacts) { f.Off = `alarms.snapshot = "off"` }
	ahead := func(f *LegFacts) { f.Ahead = "20300101T000000Z" }
	running := func(f *LegFacts) { f.Running = true }
	skipped := func(f *LegFacts) { f.LastAttempt, f.LastError = ago(hour), "it does not answer" }
	steady := Takes{Newest: ago(10 * time.Second), Before: ago(30 * time.Second), Limit: 26 * hour}
	daily := Takes{Newest: ago(6 * hour), Before: ago(30 * hour), Limit: 26 * hour}

	tests := []struct {
		name  string
		facts LegFacts
		takes Takes
		bad   bool // takes are bad
		level string
		quiet bool
		text  string // part of the message
	}{
		{"never ran, no daemon", snapshot, Takes{}, false, LevelWarning, true, "neither did the daemon"},
		{"installed an hour ago: nothing to restore to", leg(snapshot, watched(hour)), Takes{}, false, LevelWarning,
			true, "not run yet"},
		{"never ran, at the limit", leg(snapshot, watched(26*hour)), Takes{}, false, LevelWarning, true, ""},
		{"never ran, past the limit", leg(snapshot, watched(26*hour+1)), Takes{}, false, LevelCritical, false,
			"no success since 2026-04-06 09:59 UTC, for more than 26 hours"},
		{"a scrub whose first time has not come", leg(scrub, watched(day), due(-day)), Takes{}, false, LevelOK, false,
			"its first time has not come"},
		{"a scrub that was due and has not run", leg(scrub, watched(2*day), due(hour)), Takes{}, false, LevelWarning,
			true, "not run yet"},
		{"a scrub that never ran", leg(scrub, watched(10*day), due(8*day)), Takes{}, false, LevelCritical, false,
			"no success since"},
		{"fresh", leg(snapshot, well(hour), newest(hour)), Takes{}, false, LevelOK, false, ""},
		{"at the limit", leg(snapshot, well(hour), newest(26*hour)), Takes{}, false, LevelOK, false, ""},
		{"past the limit", leg(snapshot, well(hour), newest(26*hour+1)), Takes{}, false, LevelCritical, false,
			"more than 26 hours ago"},
		{"all snapshots are gone", leg(snapshot, well(hour)), Takes{}, false, LevelCritical, false,
			"no valid snapshot any more"},
		{"all snapshots are of the future", leg(snapshot, well(hour), ahead), Takes{}, false, LevelCritical, false,
			"snapshot 20300101T000000Z is whole, and dated in the future"},
		{"all snapshots are of the future, and nothing is remembered", leg(snapshot, ahead), Takes{}, false,
			LevelCritical, false, "dated in the future"},
		{"one of the future, and one that counts", leg(snapshot, well(hour), newest(hour), ahead), Takes{}, false,
			LevelOK, false, ""},
		{"the history was lost, the snapshots are there", leg(snapshot, watched(hour), newest(6*hour)), Takes{}, false,
			LevelOK, false, ""},
		{"the disk is gone", leg(snapshot, func(f *LegFacts) { f.Err = errors.New("no such directory") }), Takes{},
			false, LevelCritical, false, "no such directory"},
		{"off", leg(snapshot, well(300*day), newest(300*day),
			func(f *LegFacts) { f.Off = `alarms.snapshot = "off"` }), Takes{}, false,
			LevelOK, false, `not watched: alarms.snapshot = "off"`},

		{"off, and all snapshots are gone", leg(snapshot, well(hour), off), Takes{}, false, LevelCritical, false,
			"no valid snapshot any more"},
		{"off, and the last run failed", leg(snapshot, newest(hour), failed(hour), off), Takes{}, false, LevelCritical,
			false, "because"},
		{"off, and a target's state is damaged", leg(target, off, func(f *LegFacts) { f.Err = errors.New("damaged") }),
			Takes{}, false, LevelCritical, false, "damaged"},
		{"nothing is remembered", leg(target, func(f *LegFacts) { f.Unremembered = true }), Takes{}, false,
			LevelWarning, true, "not known whether it ever ran"},
		{"failed, retries to come", leg(snapshot, newest(25*hour), failed(time.Minute), retry(-4*time.Minute)), Takes{},
			false, LevelWarning, true, "tried again at 2026-04-07 12:04 UTC: because"},
		{"failed, being retried", leg(snapshot, newest(25*hour), failed(hour), retry(50*time.Minute), running), Takes{},
			false, LevelWarning, true, "being tried again"},
		{"failed, and the retry is promised for next month", leg(snapshot, newest(25*hour), failed(time.Minute),
			retry(-30*day)), Takes{}, false, LevelCritical, false, "because"},
		{"failed, is promised for next month, and another runs", leg(snapshot, newest(25*hour), failed(time.Minute),
			retry(-30*day), running), Takes{}, false, LevelCritical, false, "because"},
		{"failed, and the longest promise", leg(snapshot, newest(25*hour), failed(time.Minute), retry(-12*hour)),
			Takes{},
			false, LevelWarning, true, "tried again at"},
		{"failed, and the retry never came", leg(snapshot, newest(25*hour), failed(hour), retry(10*time.Minute)),
			Takes{}, false, LevelCritical, false, "because"},
		{"failed for good", leg(snapshot, newest(25*hour), failed(hour)), Takes{}, false, LevelCritical, false,
			"because"},
		{"ran too long", leg(snapshot, newest(25*hour), last(hour, TimedOut, RunDetail{Failure: "timeout"})), Takes{},
			false, LevelCritical, false, "because"},
		{"failed, then went well", leg(snapshot, well(time.Minute), newest(time.Minute),
			last(time.Minute, OK, RunDetail{})), Takes{}, false, LevelOK, false, ""},
		{"went well by a clock that is ahead, then failed", leg(snapshot, well(-30*day), newest(hour), failed(hour)),
			Takes{}, false, LevelCritical, false, "because"},

		{"unreachable", leg(target, well(7*day), newest(7*day), skipped), daily, false, LevelOK, false,
			"it does not answer"},
		{"unreachable for too long", leg(target, well(9*day), newest(9*day), skipped), daily, false, LevelCritical,
			false, "more than 8 days ago: it does not answer"},
		{"reached, and has nothing new", leg(target, well(hour), newest(9*day)), daily, false, LevelCritical, false,
			"newest snapshot is of 2026-03-29"},
		{"never reached", leg(target, watched(9*day), skipped), daily, false, LevelCritical, false,
			"it does not answer"},
		{"key refused", leg(target, well(day), newest(day), failed(hour)), daily, false, LevelCritical, false,
			"because"},
		{"key refused, then asleep", leg(target, well(day), newest(day), failed(2*hour), skipped), daily, false,
			LevelCritical, false, "because"},
		{"late for the lack of snapshots", leg(target, well(9*day), newest(9*day)),
			Takes{Newest: ago(9 * day), Before: ago(10 * day), Limit: 26 * hour}, true, LevelWarning, true,
			"waits for a snapshot"},
		{"late after a machine was off, and its first take", leg(target, well(9*day), newest(9*day)),
			Takes{Newest: ago(time.Minute), Before: ago(9 * day), Limit: 26 * hour}, false, LevelWarning,
			true, "waits"},
		{"late, with a take every 20 s", leg(target, well(9*day), newest(9*day)), steady, false, LevelCritical,
			false, "8 days"},
		{"never reached, with a take every 20 s", leg(target, watched(60*day)), steady, false, LevelCritical, false,
			"no success since"},
		{"late before the takes failed too", leg(target, well(20*day), newest(20*day)),
			Takes{Newest: ago(2 * day), Before: ago(3 * day), Limit: 26 * hour}, true, LevelCritical, false, "8 days"},

		{"prune is held", leg(prune, well(day), failed(hour)), daily, false, LevelCritical, false, "because"},
		{"drill overdue", leg(drill, well(101*day)), daily, false, LevelWarning, false, "more than 100 days ago"},
		{"drill failed", leg(drill, well(day), last(hour, Failed, RunDetail{Failure: "invalid"})), daily, false,
			LevelCritical, false, "because"},
		{"a success of tomorrow", leg(prune, well(-day)), daily, false, LevelWarning, false,
			"has not come yet: check the clock"},
		{"a clock that was a little fast", leg(prune, well(-hour)), daily, false, LevelOK, false, ""},
	}
	for _, test := range tests {
		got := test.facts.judge(test.takes, test.bad, noon)
		if got.level != test.level || got.quiet != test.quiet || !strings.Contains(got.message, test.text) {
			t.Errorf("%s: %+v, want %s, quiet %v, %q", test.name, got, test.level, test.quiet, test.text)
		}
		if got.level != LevelOK && (got.headline == "" || got.message == "") {
			t.Errorf("%s: it is bad, and has no words: %+v", test.name, got)
		}
	}
}

// A target whose vault the newest look did not find holds no copy, whichever of its
// legs looked.
func TestVaultAway(t *testing.T) {
	run := func(id int64, why string) Run {
		r := ended("sync:laptop", ago(hour), OK, RunDetail{})
		if why != "" {
			r = ended("sync:laptop", ago(hour), Failed, RunDetail{Failure: why})
		}
		r.ID = id
		return r
	}
	for _, test := range []struct {
		name         string
		sync, verify Run
		away         bool
	}{
		{"never looked", Run{}, Run{}, false},
		{"it was there", run(1, ""), run(2, ""), false},
		{"another vault", run(3, "vault_mismatch"), run(2, ""), true},
		{"no vault", run(3, "not_found"), run(2, ""), true},
		{"the key is refused", run(3, "auth_failed"), run(2, ""), false},
		{"a verify did not find it", run(1, ""), run(2, "vault_mismatch"), true},
		{"a sync found it after that", run(3, ""), run(2, "vault_mismatch"), false},
		{"a verify found it after that", run(3, "vault_mismatch"), run(4, ""), false},
	} {
		r := Judge(Facts{Legs: []LegFacts{{Name: "offsite:laptop", Last: test.sync},
			{Name: "verify:laptop", Last: test.verify}, {Name: "offsite:disk", Last: run(9, "")}}}, noon)
		for _, l := range r.Legs {
			if l.Away != (test.away && l.Name != "offsite:disk") {
				t.Errorf("%s: %s is away: %v", test.name, l.Name, l.Away)
			}
		}
	}
}

// A take whose files are gone is no success.
func TestLegReport(t *testing.T) {
	for _, test := range []struct {
		name    string
		facts   LegFacts
		success time.Time
	}{
		{"older ones are left", LegFacts{Name: LegSnapshot, Holds: true, LastSuccess: ago(hour), Newest: ago(day)},
			ago(day)},
		{"none is left", LegFacts{Name: LegSnapshot, Holds: true, LastSuccess: ago(hour)}, time.Time{}},
		{"a job", LegFacts{Name: LegPrune, LastSuccess: ago(hour)}, ago(hour)},
	} {
		l := test.facts.report(verdict{}, noon)
		if (l.LastSuccess == nil) != test.success.IsZero() ||
			l.LastSuccess != nil && !l.LastSuccess.Equal(test.success) {
			t.Errorf("%s: %+v", test.name, l)
		}
	}
}

// Which run of a job says how its leg stands.
func TestDecisive(t *testing.T) {
	run := func(id int64, job string, outcome Outcome, detail RunDetail, at time.Duration) Run {
		r := ended(job, ago(at), outcome, detail)
		r.ID = id
		return r
	}
	failed := run(7, "sync:laptop", Failed, RunDetail{Failure: "auth_failed"}, hour)
	for _, test := range []struct {
		name string
		runs []Run // newest first
		want int64
	}{
		{"none", nil, 0},
		{"one that failed", []Run{failed}, 7},
		{"skipped since", []Run{run(9, "sync:laptop", Skipped, RunDetail{Failure: "unreachable"}, 0), failed}, 7},
		{"interrupted since", []Run{run(9, "sync:laptop", Interrupted, RunDetail{}, 0), failed}, 7},
		{"a slip of the fingers since", []Run{run(9, "sync:laptop", Failed, RunDetail{Failure: "usage"}, 0), failed},
			7},
		{"found the lock taken since, by hand", []Run{run(9, "backup", Failed, RunDetail{Failure: "locked"}, 0),
			failed}, 7},
		{"found the lock taken, the daemon's take",
			[]Run{run(9, "backup", Failed, RunDetail{Failure: "locked", Daemon: true}, 0), failed}, 9},
		{"the daemon's prune found the lock taken",
			[]Run{run(9, "prune", Failed, RunDetail{Failure: "locked", Daemon: true}, 0), failed}, 7},
		{"refused for safety since, by hand", []Run{run(9, "backup", Failed, RunDetail{Failure: "refused"}, 0),
			run(5, "backup", OK, RunDetail{}, hour)}, 5},
		{"refused for safety since, the daemon's",
			[]Run{run(9, "backup", Failed, RunDetail{Failure: "refused", Daemon: true}, 0), failed}, 9},
		{"went well since", []Run{run(9, "sync:laptop", OK, RunDetail{}, 0), failed}, 9},
		{"went well before, dated later", []Run{failed, run(5, "sync:laptop", OK, RunDetail{}, -30*day)}, 7},
	} {
		got, ok := Decisive(test.runs)
		if ok != (test.want != 0) || got.ID != test.want {
			t.Errorf("%s: run %d, %v; want %d", test.name, got.ID, ok, test.want)
		}
	}
}

// The cause picks the words: the command is the failure's own, and the leg's only
// where there is none.
func TestCommandComesFromTheCause(t *testing.T) {
	for _, test := range []struct{ hint, want string }{
		{"suspect the disk; see what would heal them: atobackupd scrub --repair", "atobackupd scrub --repair"},
		{"finish it with `atobackupd restore --resume`, or put everything back with `atobackupd restore --abort`",
			"atobackupd restore --resume"},
		{"record the host key with `atobackupd target trust laptop`", "atobackupd target trust laptop"},
		{"systemctl restart atobackupd, and then: atobackupd scrub --all", "systemctl restart atobackupd"},
		{"mount its disk; if this is a new directory: atobackupd accept backup-dir", "atobackupd accept backup-dir"},
		{"if it was meant: atobackupd accept 20260407T060000Z; if not: see `atobackupd list` for one to restore",
			"atobackupd list"},
		{"chmod 750 /srv/backups, and look at who is in its group", "chmod 750 /srv/backups"},
		{"free some space, or lower backup.min_free", ""},
		{"make it yours: chown -R atobackupd: /srv/backups; see who made it", "chown -R atobackupd: /srv/backups"},
		{"timedatectl", "timedatectl"},
		{"", ""},
	} {
		if got := (Problem{Hint: test.hint}).Command(); got != test.want {
			t.Errorf("%q: %q, want %q", test.hint, got, test.want)
		}
	}
	f := LegFacts{Name: LegScrub, Limit: day, Late: LevelCritical, Hint: "atobackupd scrub", LastSuccess: ago(hour),
		Last: ended("scrub", ago(time.Minute), Failed,
			RunDetail{Failure: "invalid", Hint: "see what would heal them: atobackupd scrub --repair"})}
	r := Judge(Facts{Legs: []LegFacts{f}}, noon)
	if p := r.Problems(); len(p) != 1 || p[0].Command() != "atobackupd scrub --repair" ||
		!strings.Contains(p[0].Headline, "did not pass") {
		t.Errorf("%+v", p)
	}
}
