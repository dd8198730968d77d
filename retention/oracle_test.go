package retention

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
)

var seedFlag = flag.Uint64("seed", 0, "repeat the random histories of this seed; 0 takes a new one")

// histories is how many the oracle is asked about.
const histories = 100_000

// oracle answers one snapshot at a time by asking whether there is a reason to
// keep it, straight from the words of the policy and by brute force. It shares
// nothing with Plan: dates are text, and order is counting.
type oracle struct {
	all []facts
	p   Policy
	now time.Time
}

// facts are a snapshot and what can be said of it without its place among the
// valid ones.
type facts struct {
	Snapshot
	known             bool // false: counted nowhere
	future            bool // only that
	date, week, month string
}

func newOracle(all []Snapshot, p Policy, now time.Time) oracle {
	o := oracle{p: p, now: now}
	for _, s := range all {
		same := 0
		for _, other := range all {
			if other.Stamp == s.Stamp {
				same++
			}
		}
		parsed, err := time.Parse(StampLayout, s.Stamp)
		local := s.Time.In(p.Location)
		f := facts{
			Snapshot: s,
			future:   same == 1 && err == nil && parsed.Equal(s.Time) && s.Time.After(now),
			known: same == 1 && err == nil && parsed.Equal(s.Time) && !s.Time.After(now) &&
				slices.Contains([]string{"daily", "weekly", "monthly", "manual", "adopted", "pre-restore"}, s.Kind),
			date:  local.Format("2006-01-02"),
			month: local.Format("2006-01"),
		}
		// The week is its first day on or before the date, walking back from noon.
		noon := time.Date(local.Year(), local.Month(), local.Day(), 12, 0, 0, 0, time.UTC)
		for noon.Weekday() != p.WeekStart {
			noon = noon.Add(-24 * time.Hour)
		}
		f.week = noon.Format("2006-01-02")
		o.all = append(o.all, f)
	}
	return o
}

func (f facts) adopted() bool { return f.Kind == "adopted" }

func (f facts) slotKind() bool { return f.known && f.Valid && f.Kind != "pre-restore" }

func byDate(f facts) string  { return f.date }
func byWeek(f facts) string  { return f.week }
func byMonth(f facts) string { return f.month }

// any reports whether a counted snapshot is as asked.
func (o oracle) any(asked func(facts) bool) bool {
	return slices.ContainsFunc(o.all, func(f facts) bool { return f.known && asked(f) })
}

// lastN reports whether fewer than n buckets that have a snapshot are newer; of
// one that was not adopted, that have another such one.
func (o oracle) lastN(n int, s facts, key func(facts) string) bool {
	newer := map[string]bool{}
	for _, other := range o.all {
		if other.slotKind() && key(other) > key(s) && (s.adopted() || !other.adopted()) {
			newer[key(other)] = true
		}
	}
	return len(newer) < n
}

func (o oracle) holdsDay(s facts) bool {
	return s.slotKind() && o.lastN(o.p.Daily, s, byDate) && !o.any(func(other facts) bool {
		if other.adopted() != s.adopted() {
			return other.slotKind() && other.date == s.date && s.adopted()
		}
		return other.slotKind() && other.date == s.date && other.Time.After(s.Time)
	})
}

// holds is for weeks and months: nobody else is on an earlier day of it, nor on
// the same day and full where s is not, nor there, equally full, and newer.
func (o oracle) holds(n int, s facts, key func(facts) string) bool {
	return s.slotKind() && o.lastN(n, s, key) && !o.any(func(other facts) bool {
		if !other.slotKind() || key(other) != key(s) {
			return false
		}
		if other.adopted() != s.adopted() {
			return s.adopted()
		}
		return other.date < s.date ||
			other.date == s.date && (other.Full && !s.Full || other.Full == s.Full && other.Time.After(s.Time))
	})
}

// newest reports whether s is as asked and nothing newer is.
func (o oracle) newest(s facts, asked func(facts) bool) bool {
	return s.known && asked(s) && !o.any(func(other facts) bool { return asked(other) && other.Time.After(s.Time) })
}

// protects reports whether a suspect snapshot keeps what was valid before it.
func (o oracle) protects(s facts) bool {
	return (s.known || s.future) && s.Suspect && o.p.Suspect > 0 && o.now.Sub(s.Time) <= o.p.Suspect
}

func (o oracle) keep(s facts) bool {
	age := o.now.Sub(s.Time)
	invalidFor := age
	if s.InvalidSince.After(s.Time) {
		invalidFor = o.now.Sub(s.InvalidSince)
	}
	preRestore := s.Kind == "pre-restore"
	switch {
	case o.p.Daily <= 0 && o.p.Weekly <= 0 && o.p.Monthly <= 0:
	case !s.known, s.Pinned, s.InUse != "":
	case o.holdsDay(s), o.holds(o.p.Weekly, s, byWeek), o.holds(o.p.Monthly, s, byMonth):
	case o.newest(s, func(x facts) bool { return x.Valid && !x.adopted() }):
	case o.newest(s, func(x facts) bool { return x.Valid && x.Full && !x.adopted() }):
	case o.newest(s, facts.slotKind):
	case o.newest(s, func(x facts) bool { return x.slotKind() && x.Full }):
	case o.newest(s, func(x facts) bool { return x.slotKind() && !x.adopted() }):
	case o.newest(s, func(x facts) bool { return x.slotKind() && x.Full && !x.adopted() }):
	case s.Valid && age < o.p.KeepWithin:
	case o.protects(s):
	case s.Valid && slices.ContainsFunc(o.all, func(x facts) bool {
		return o.protects(x) && x.Time.After(s.Time)
	}):
	case o.newest(s, func(x facts) bool { return x.Kind == "pre-restore" }):
	case preRestore && o.p.PreRestore > 0 && age <= o.p.PreRestore:
	case !s.Valid && o.p.Invalid > 0 && invalidFor <= o.p.Invalid:
	case !s.Valid && !o.any(
		func(x facts) bool { return x.slotKind() && x.Time.After(s.Time) && (s.adopted() || !x.adopted()) },
	):
	default:
		return false
	}
	return true
}

func (o oracle) held() bool {
	valid, lost := 0, 0
	for _, s := range o.all {
		if s.known && s.Valid {
			valid++
			if !o.keep(s) {
				lost++
			}
		}
	}
	return lost > 3 && float64(lost)/float64(valid) > o.p.MaxDeleteFraction
}

// zones have clocks that change at 1:00, at 2:00, at midnight, just past
// midnight, and not at all, and dates on both sides of UTC's.
var zones = []string{
	"UTC",
	"Europe/Berlin",
	"America/New_York",
	"America/St_Johns",
	"America/Havana",
	"Pacific/Kiritimati",
}

// randomHistory bunches stamps around the edges of days, weeks, months and
// clock changes: far from edges every rule is the same.
func randomHistory(r *rand.Rand, location *time.Location) ([]Snapshot, Policy, time.Time) {
	starts := []time.Time{
		time.Date(2010, 11, 7, 0, 0, 0, 0, location), // St. John's fell back over midnight
		time.Date(2026, 3, 29, 0, 0, 0, 0, location),
		time.Date(2026, 11, 1, 0, 0, 0, 0, location),
		time.Date(2028, 2, 29, 0, 0, 0, 0, location),
		time.Date(2027, 1, 1, 0, 0, 0, 0, location),
	}
	start := starts[r.IntN(len(starts))]
	kinds := []string{
		"daily",
		"daily",
		"daily",
		"weekly",
		"monthly",
		"manual",
		"adopted",
		"adopted",
		"adopted",
		"pre-restore",
		"pre-restore",
	}
	stride := []int{1, 1, 5, 12}[r.IntN(4)]
	var all []Snapshot
	for range r.IntN(16) {
		when := start.AddDate(0, 0, stride*(r.IntN(14)-7)).
			Add([]time.Duration{0, -time.Second, time.Minute, 5 * time.Hour, 23 * time.Hour}[r.IntN(5)]).
			Add(time.Duration(r.IntN(3)) * 30 * time.Second).UTC()
		s := Snapshot{
			Stamp: when.Format(StampLayout), Time: when, Kind: kinds[r.IntN(len(kinds))],
			Full: r.IntN(4) == 0, Valid: r.IntN(5) != 0, Pinned: r.IntN(20) == 0, Suspect: r.IntN(25) == 0,
		}
		if r.IntN(20) == 0 {
			s.InUse = "restore"
		}
		if r.IntN(4) == 0 {
			s.InvalidSince = when.AddDate(0, 0, r.IntN(30)-5)
		}
		switch r.IntN(60) {
		case 0:
			s.Kind = "hourly"
		case 1:
			s.Time = time.Time{}
		case 2:
			s.Time = s.Time.Add(time.Hour)
		}
		all = append(all, s)
	}
	p := Policy{
		Daily: r.IntN(5) - 1, Weekly: r.IntN(5) - 1, Monthly: r.IntN(5) - 1,
		PreRestore:        time.Duration(r.IntN(5)-1) * 7 * day,
		Invalid:           time.Duration(r.IntN(5)-1) * 2 * day,
		KeepWithin:        time.Duration(r.IntN(4)-1) * 36 * time.Hour,
		Suspect:           time.Duration(r.IntN(4)-1) * 10 * day,
		WeekStart:         time.Weekday(r.IntN(7)),
		MaxDeleteFraction: float64(r.IntN(12)-1) / 10,
		Location:          location,
	}
	return all, p, start.AddDate(0, 0, stride*r.IntN(10))
}

// TestPlanAgainstOracle compares every verdict over random histories.
func TestPlanAgainstOracle(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	var locations []*time.Location
	for _, name := range zones {
		locations = append(locations, zone(t, name))
	}
	kept, deleted, held := 0, 0, 0
	for i := range uint64(histories) {
		r := rand.New(rand.NewPCG(seed, i))
		all, p, now := randomHistory(r, locations[i%uint64(len(locations))])
		d := Plan(all, p, now)
		o := newOracle(all, p, now)
		verdicts := map[string]bool{}
		for _, v := range d.Verdicts {
			verdicts[v.Stamp] = v.Keep
			if len(v.Reasons) == 0 {
				t.Fatalf("-seed=%d history %d: no reason for %s", seed, i, v.Stamp)
			}
		}
		for _, s := range o.all {
			if want := o.keep(s); verdicts[s.Stamp] != want {
				t.Fatalf(
					"-seed=%d history %d: oracle keeps %s: %v\n%s",
					seed,
					i,
					s.Stamp,
					want,
					describe(all, p, now, d),
				)
			}
		}
		if len(d.Verdicts) != len(all) || d.Held != o.held() {
			t.Fatalf("-seed=%d history %d: oracle holds: %v\n%s", seed, i, o.held(), describe(all, p, now, d))
		}
		kept, deleted = kept+len(d.Keep()), deleted+len(d.Delete())
		if d.Held {
			held++
		}
	}
	// Histories in which nothing happens would agree with anything.
	if kept < histories || deleted < histories || held < histories/1000 {
		t.Errorf("-seed=%d: the histories are too tame: %d kept, %d deleted, %d held", seed, kept, deleted, held)
	}
	t.Logf("%d kept, %d deleted, %d plans held", kept, deleted, held)
	provetest.Points(t, histories)
}

// describe writes a history so that it can be read, and put in a table.
func describe(all []Snapshot, p Policy, now time.Time, d Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v in %v, now %s\n", p, p.Location, now.UTC().Format(StampLayout))
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, oldestFirst)
	for i, s := range sorted {
		fmt.Fprintf(&b, "%+v\n\t%s\n", s, show(d.Verdicts[i]))
	}
	return b.String()
}
