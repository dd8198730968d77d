package health

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// aTime draws a time around noon, in the future too, or none.
func aTime(t *rapid.T, name string) time.Time {
	if rapid.Bool().Draw(t, name+" is set") {
		return noon.Add(time.Duration(rapid.Int64Range(-int64(400*day), int64(40*day)).Draw(t, name)))
	}
	return time.Time{}
}

func aTrouble(t *rapid.T, name string) *Trouble {
	if rapid.IntRange(0, 3).Draw(t, name) > 0 {
		return nil
	}
	return &Trouble{Message: name, Hint: "atobackupd " + name, Since: aTime(t, name+" since")}
}

func aLeg(t *rapid.T, name string) LegFacts {
	f := LegFacts{Name: name, Limit: time.Duration(rapid.Int64Range(1, int64(100*day)).Draw(t, "limit")),
		Holds: name == LegSnapshot || name == LegFull,
		Late:  LevelCritical, Follows: name == LegPrune || name == LegOffsite("laptop"), Watched: aTime(t, "watched"),
		Due:         aTime(t, "due"),
		LastSuccess: aTime(t, "success"), LastAttempt: aTime(t, "attempt"), Newest: aTime(t, "newest"),
		RetryAt: aTime(t, "retry"),
		Running: rapid.Bool().Draw(t, "running")}
	switch rapid.IntRange(0, 3).Draw(t, "last") {
	case 1:
		f.Last = ended("job", aTime(t, "ended"), OK, RunDetail{})
	case 2:
		f.Last, f.LastError = ended("job", aTime(t, "ended"), Failed, RunDetail{Failure: "error"}), "because"
	case 3:
		f.LastError = "it does not answer"
	}
	if rapid.IntRange(0, 9).Draw(t, "off") == 0 {
		f.Off = "off"
	}
	return f
}

func someFacts(t *rapid.T) Facts {
	f := Facts{Takes: Takes{Newest: aTime(t, "take"), Before: aTime(t, "take before"), Limit: 26 * hour}}
	for _, name := range []string{LegSnapshot, LegFull, LegOffsite("laptop"), LegPrune, LegScrub, LegDrill} {
		f.Legs = append(f.Legs, aLeg(t, name))
	}
	f.RestorePending, f.Unverified, f.Config = aTrouble(t, "pending"), aTrouble(t, "unverified"), aTrouble(t, "config")
	f.Recipients, f.Shared, f.Mount = aTrouble(t, "recipients"), aTrouble(t, "shared"), aTrouble(t, "mount")
	f.Daemon = Daemon{Scheduled: true, State: rapid.SampledFrom([]string{DaemonRunning, DaemonStopped, DaemonHung,
		DaemonNever}).Draw(t, "daemon"), Since: aTime(t, "daemon since")}
	few := func(name string) int { return rapid.IntRange(0, 2).Draw(t, name) }
	for i := range few("damage") {
		f.Damage = append(f.Damage, Damage{Subject: fmt.Sprint("damaged", i), What: "torn", Since: aTime(t, "found"),
			Gone: rapid.Bool().Draw(t, "gone")})
	}
	for i := range few("shrunk") {
		f.Shrunk = append(f.Shrunk, Shrunk{Stamp: fmt.Sprint("shrunk", i), Since: aTime(t, "shrunk since")})
	}
	for i := range few("unheard") {
		f.Notify = append(f.Notify, Trouble{Message: fmt.Sprint("unheard", i)})
	}
	for i := range few("clocks") {
		f.Clocks = append(f.Clocks, fmt.Sprint("clock", i))
	}
	for i := range few("others") {
		f.Others = append(f.Others, Other{Name: fmt.Sprint("job:", i), Trouble: Trouble{Message: "it hangs"}})
	}
	f.History.StartedOver, f.History.ScrubPassed = aTime(t, "started over"), rapid.Bool().Draw(t, "scrubbed")
	f.History.TookForeign, f.History.Foreign = rapid.Bool().Draw(t, "took"), rapid.IntRange(0, 9).Draw(t, "foreign") == 0
	if rapid.Bool().Draw(t, "locked") {
		f.Lock = &LockFacts{Holder: "pid 7", Since: aTime(t, "locked since")}
	}
	return f
}

// evidence is what each fact that is bad by itself must lead to.
func (f Facts) evidence() map[string]string {
	want := make(map[string]string)
	add := func(bad bool, name, level string) {
		if bad {
			want[name] = level
		}
	}
	add(f.RestorePending != nil, ConditionRestorePending, LevelCritical)
	add(len(f.Damage) > 0, ConditionDamaged, LevelCritical)
	add(len(f.Shrunk) > 0, ConditionSourceShrunk, LevelCritical)
	add(f.Unverified != nil, ConditionUnverified, LevelWarning)
	add(f.Config != nil, ConditionConfig, LevelCritical)
	add(len(f.Notify) > 0, ConditionNotify, LevelWarning)
	add(len(f.Clocks) > 0, ConditionClock, LevelWarning)
	add(f.Recipients != nil, ConditionRecipients, LevelCritical)
	add(f.Shared != nil, ConditionShared, LevelCritical)
	add(f.Mount != nil, ConditionMount, LevelCritical)
	add(!f.History.StartedOver.IsZero() && !f.History.ScrubPassed, ConditionHistory, LevelCritical)
	add(f.Daemon.State == DaemonHung && noon.Sub(f.Daemon.Since).Abs() > daemonPatience, ConditionDaemon, LevelCritical)
	for _, o := range f.Others {
		add(true, o.Name, LevelCritical)
	}
	return want
}

// A report is never better than the worst evidence in it.
func TestReportIsNeverBetterThanItsEvidence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := someFacts(t)
		r := Judge(f, noon)
		worst := LevelOK
		for _, l := range r.Legs {
			worst = Worse(worst, l.Level)
		}
		for _, c := range r.Conditions {
			worst = Worse(worst, c.Level)
		}
		if r.Level != worst {
			t.Fatalf("the report is %s and its worst part %s", r.Level, worst)
		}
		got := make(map[string]string)
		for _, c := range r.Conditions {
			got[c.Name] = c.Level
		}
		for name, level := range f.evidence() {
			if told, ok := got[name]; !ok || Number(told) < Number(level) || Number(r.Level) < Number(level) {
				t.Fatalf("%s is %q, want %s: the report is %s", name, got[name], level, r.Level)
			}
		}
		for i, l := range f.Legs {
			got := r.Legs[i]
			if l.Off != "" {
				evidence := Conclusive(l.Last) || l.isGone() || l.Err != nil
				if got.Watched || (got.Level != LevelOK) != evidence {
					t.Fatalf("%s is off: %+v", l.Name, got)
				}
				continue
			}
			if Conclusive(l.Last) && got.Level == LevelOK {
				t.Fatalf("%s failed and is ok: %+v", l.Name, got)
			}
			at, _ := l.reference()
			if !at.IsZero() && noon.Sub(at) > l.Limit && got.Level == LevelOK {
				t.Fatalf("%s is %v old and ok", l.Name, noon.Sub(at))
			}
			if l.Holds && l.Newest.IsZero() && got.Level == LevelOK {
				t.Fatalf("%s has no snapshot and is ok", l.Name)
			}
			if at.Sub(noon) > ClockSlack && got.Level == LevelOK {
				t.Fatalf("%s went well in the future and is ok", l.Name)
			}
		}
		if problems := r.Problems(); (len(problems) == 0) != (r.Level == LevelOK) || len(problems) > 0 &&
			problems[0].Level != r.Level {
			t.Fatalf("%s with %+v", r.Level, problems)
		}
	})
}

// One bad fact more never makes a report better.
func TestABadFactNeverHelps(t *testing.T) {
	bad := []struct {
		name string
		make func(f *Facts, i int)
	}{
		{"a leg fails", func(f *Facts, i int) {
			f.Legs[i].Last = ended("job", noon, Failed,
				RunDetail{Failure: "error"})
		}},
		{"a leg cannot be looked at", func(f *Facts, i int) { f.Legs[i].Err = errors.New("cannot") }},
		{"what a leg holds is gone", func(f *Facts, i int) {
			if f.Legs[i].Holds && !f.Legs[i].LastSuccess.IsZero() {
				f.Legs[i].Newest = time.Time{}
			}
		}},
		{"a success was longer ago", func(f *Facts, i int) {
			l := &f.Legs[i]
			if at, _ := l.reference(); !at.IsZero() && !at.After(noon) {
				l.LastSuccess, l.Newest = at.Add(-l.Limit), at.Add(-l.Limit)
			}
		}},
		{"damage", func(f *Facts, i int) { f.Damage = append(f.Damage, Damage{Subject: fmt.Sprint(i)}) }},
		{"a restore is pending", func(f *Facts, _ int) { f.RestorePending = &Trouble{} }},
		{"not mounted", func(f *Facts, _ int) { f.Mount = &Trouble{} }},
		{"the source shrank", func(f *Facts, _ int) { f.Shrunk = append(f.Shrunk, Shrunk{}) }},
		{"nobody is told", func(f *Facts, _ int) { f.Notify = append(f.Notify, Trouble{}) }},
		{"the history is another's", func(f *Facts, _ int) { f.History.Foreign = true }},
		{"the history is lost", func(f *Facts, _ int) { f.History.StartedOver = noon }},
		{"no room", func(f *Facts, _ int) { f.Space = &Space{Next: 1} }},
		{"a clock is wrong", func(f *Facts, _ int) { f.Clocks = append(f.Clocks, "x") }},
		{"a second daemon", func(f *Facts, _ int) { f.Daemon.Second = &Trouble{} }},
		{"the daemon hangs", func(f *Facts, _ int) { f.Daemon.State, f.Daemon.Since = DaemonHung, noon.Add(-hour) }},
		{"a job hangs", func(f *Facts, _ int) { f.Others = append(f.Others, Other{Name: "job:daily"}) }},
	}
	rapid.Check(t, func(t *rapid.T) {
		f := someFacts(t)
		before := Judge(f, noon)
		i := rapid.IntRange(0, len(f.Legs)-1).Draw(t, "leg")
		b := bad[rapid.IntRange(0, len(bad)-1).Draw(t, "bad")]
		worse := f
		worse.Legs = append([]LegFacts{}, f.Legs...)
		b.make(&worse, i)
		after := Judge(worse, noon)
		if Number(after.Level) < Number(before.Level) {
			t.Fatalf("%s on %s: from %s to %s", b.name, f.Legs[i].Name, before.Level, after.Level)
		}
		for _, c := range before.Conditions {
			if !slices.ContainsFunc(after.Conditions, func(d Condition) bool {
				return d.Name == c.Name && Number(d.Level) >= Number(c.Level)
			}) {
				t.Fatalf("%s on %s: %s was %s: %+v", b.name, f.Legs[i].Name, c.Name, c.Level, after.Conditions)
			}
		}
	})
}
