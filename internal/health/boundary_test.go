package health

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The moments at which a leg changes: on the one side and a nanosecond further.
func TestEdges(t *testing.T) {
	const tick = time.Nanosecond
	base := LegFacts{Name: LegPrune, Limit: day, Late: LevelCritical, Follows: true, Watched: ago(90 * day)}
	well := func(at time.Duration) LegFacts {
		f := base
		f.LastSuccess = ago(at)
		return f
	}
	retried := func(at time.Duration, running bool) LegFacts {
		f := well(hour)
		f.Last, f.RetryAt, f.Running = ended("prune", ago(time.Minute), Failed, RunDetail{Failure: "error"}), ago(at),
			running
		return f
	}
	due := func(at time.Duration) LegFacts {
		f := base
		f.Watched, f.Due = ago(hour), ago(at)
		return f
	}
	first := func(at time.Duration) LegFacts {
		f := base
		f.Watched = ago(at)
		return f
	}
	takes := func(newest, before time.Duration) Takes {
		return Takes{Newest: ago(newest), Before: ago(before), Limit: 26 * hour}
	}
	for _, test := range []struct {
		name  string
		facts LegFacts
		takes Takes
		level string
		quiet bool
	}{
		{"as old as its limit", well(day), Takes{}, LevelOK, false},
		{"older than its limit", well(day + tick), takes(2*hour, 5*hour), LevelCritical, false},
		{"an hour ahead", well(-hour), Takes{}, LevelOK, false},
		{"more than an hour ahead", well(-hour - tick), Takes{}, LevelWarning, false},
		{"due now", due(0), Takes{}, LevelOK, false},
		{"due since", due(tick), Takes{}, LevelWarning, true},
		{"watched for its limit, and never due", first(day), Takes{}, LevelOK, false},
		{"watched for longer", first(day + tick), takes(2*hour, 5*hour), LevelCritical, false},

		{"a retry in twelve hours", retried(-12*hour, false), Takes{}, LevelWarning, true},
		{"a retry that a clock ahead promised", retried(-12*hour-tick, false), Takes{}, LevelCritical, false},
		{"a retry that waits in the queue", retried(10*time.Minute-tick, false), Takes{}, LevelWarning, true},
		{"a retry that never came", retried(10*time.Minute, false), Takes{}, LevelCritical, false},
		{"a retry that runs, however late", retried(9*hour, true), Takes{}, LevelWarning, true},

		{"a take within the hour", well(day + hour/2), takes(hour-tick, 25*hour), LevelWarning, true},
		{"a take an hour ago", well(day + hour/2), takes(hour, 25*hour), LevelCritical, false},
		{"late after the take began", well(day + hour/2), takes(hour/2+tick, 2*hour), LevelWarning, true},
		{"late when the take began", well(day + hour/2), takes(hour/2, 2*hour), LevelCritical, false},
		{"late before the take began", well(2 * day), takes(time.Minute, 5*hour), LevelCritical, false},
		{"late for the lack of takes", well(2 * day), takes(time.Minute, 27*hour), LevelWarning, true},
		{"no take at all", well(day + hour), Takes{}, LevelCritical, false},
	} {
		got := test.facts.judge(test.takes, false, noon)
		if got.level != test.level || got.quiet != test.quiet {
			t.Errorf("%s: %s, quiet %v (%s); want %s, %v", test.name, got.level, got.quiet, got.message, test.level,
				test.quiet)
		}
	}
}

// Grace is for legs that follow a take. A scrub waits for nobody.
func TestOnlyWhatFollowsATakeHasGrace(t *testing.T) {
	for _, test := range []struct {
		leg     string
		follows bool
		level   string
		quiet   bool
	}{
		{LegPrune, true, LevelWarning, true},
		{LegOffsite("laptop"), true, LevelWarning, true},
		{LegScrub, false, LevelCritical, false},
		{LegVerify("laptop"), false, LevelCritical, false},
	} {
		f := LegFacts{Name: test.leg, Limit: day, Late: LevelCritical, Follows: test.follows,
			LastSuccess: ago(25 * hour)}
		got := f.judge(Takes{Newest: ago(2 * day), Before: ago(3 * day), Limit: 26 * hour}, true, noon)
		if got.level != test.level || got.quiet != test.quiet {
			t.Errorf("%s: %+v, want %s, quiet %v", test.leg, got, test.level, test.quiet)
		}
	}
}

// Time alone mends nothing: what is late stays late until something happens. A
// retry that is promised is taken back, and never the other way round.
func TestTimeAloneMendsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := aLeg(t, rapid.SampledFrom([]string{LegSnapshot, LegScrub, LegPrune, LegOffsite("laptop")}).Draw(t, "leg"))
		f.Running, f.RetryAt = false, time.Time{}
		at, _ := f.reference()
		if f.Off != "" || at.After(noon) || f.Watched.After(noon) {
			return // a clock that is wrong is put right by time
		}
		later := noon.Add(time.Duration(rapid.Int64Range(0, int64(400*day)).Draw(t, "later")))
		before, after := f.judge(Takes{}, false, noon), f.judge(Takes{}, false, later)
		if Number(after.level) < Number(before.level) {
			t.Fatalf("from %+v at noon to %+v at %s", before, after, later)
		}
	})
}

// What is quiet is a warning, and no quiet thing is without a word.
func TestQuietIsNeverCritical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, p := range Judge(someFacts(t), noon).Problems() {
			if p.Quiet && p.Level != LevelWarning || p.Message == "" || p.Headline == "" {
				t.Fatalf("%+v", p)
			}
		}
	})
}

func TestLevels(t *testing.T) {
	levels := []string{LevelOK, LevelWarning, LevelCritical, LevelUnknown}
	for i, a := range levels {
		if Number(a) != i {
			t.Errorf("%s is %d, want %d as in status and for Nagios", a, Number(a), i)
		}
		for j, b := range levels {
			if got := Worse(a, b); got != levels[max(i, j)] {
				t.Errorf("the worse of %s and %s is %s", a, b, got)
			}
		}
	}
	if Number("on fire") != 3 {
		t.Error("what is no level is taken for one")
	}
}

func TestLimitText(t *testing.T) {
	for limit, want := range map[time.Duration]string{
		26 * hour: "26 hours", day: "24 hours", 2 * day: "2 days", 8 * day: "8 days", 36 * hour: "36 hours",
		90 * time.Minute: "90 minutes", time.Minute: "1 minute", hour: "1 hour", 45 * time.Second: "45 seconds",
		250 * time.Millisecond: "250ms",
	} {
		if got := limitText(limit); got != want {
			t.Errorf("%v: %q, want %q", limit, got, want)
		}
	}
}

// Which failures say something about a leg, by their kind and by who ran the job.
func TestConclusive(t *testing.T) {
	for _, test := range []struct {
		outcome Outcome
		failure string
		job     string
		person  bool // as a person ran it
		daemon  bool // as the daemon did
	}{
		{OK, "", "backup", false, false},
		{Skipped, "unreachable", "sync:laptop", false, false},
		{Interrupted, "", "backup", false, false},
		{Running, "", "backup", false, false},
		{Failed, "error", "backup", true, true},
		{Failed, "", "scrub", true, true},
		{Failed, "invalid", "drill", true, true},
		{Failed, "auth_failed", "sync:laptop", true, true},
		{Failed, "host_key_mismatch", "sync:laptop", true, true},
		{TimedOut, "timeout", "backup", true, true},
		{Failed, "usage", "backup", false, false},
		{Failed, "locked", "backup", false, true},
		{Failed, "locked", "prune", false, false},
		{Failed, "locked", "scrub", false, false},
		{Failed, "refused", "backup", false, true},
		{Failed, "refused", "sync:laptop", false, true},
	} {
		for daemon, want := range map[bool]bool{false: test.person, true: test.daemon} {
			run := ended(test.job, noon, test.outcome, RunDetail{Failure: test.failure, Daemon: daemon})
			if got := Conclusive(run); got != want {
				t.Errorf("%s of %s (%q), daemon %v: %v, want %v", test.outcome, test.job, test.failure, daemon, got,
					want)
			}
		}
	}
	if got := DetailOf(Run{Detail: []byte("{")}); got != (RunDetail{}) {
		t.Errorf("of a detail that nobody can read: %+v", got)
	}
}
