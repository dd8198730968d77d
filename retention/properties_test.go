package retention

import (
	"flag"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestMain asks more of each property than rapid's 100 draws; the command line
// still has the last word.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "1000"); err != nil {
		panic(err)
	}
	m.Run()
}

// history draws snapshots of about forty days on both sides of now.
func history(rt *rapid.T, location *time.Location) ([]Snapshot, time.Time) {
	now := time.Date(2026, 3, 29, 12, 0, 0, 0, location)
	one := rapid.Custom(func(rt *rapid.T) Snapshot {
		hours := rapid.IntRange(-40*24, 24).Draw(rt, "hours")
		when := now.Add(time.Duration(hours) * time.Hour).UTC()
		return Snapshot{
			InvalidSince: when.AddDate(0, 0, rapid.IntRange(-5, 40).Draw(rt, "rotten after")),

			Stamp: when.Format(StampLayout),
			Time:  when,
			Kind: rapid.SampledFrom(
				[]string{KindDaily, KindWeekly, KindMonthly, KindManual, KindAdopted, KindPreRestore, "hourly"},
			).
				Draw(rt, "kind"),
			Full:    rapid.Bool().Draw(rt, "full"),
			Valid:   rapid.IntRange(0, 3).Draw(rt, "valid") > 0,
			Suspect: rapid.IntRange(0, 19).Draw(rt, "suspect") == 19,
			Pinned:  rapid.IntRange(0, 9).Draw(rt, "pinned") == 9,
			InUse:   rapid.SampledFrom([]string{"", "", "", "", "restore"}).Draw(rt, "use"),
		}
	})
	return rapid.SliceOfN(one, 0, 30).Draw(rt, "snapshots"), now
}

// policy draws one that keeps for at least one tier.
func policy(rt *rapid.T, location *time.Location) Policy {
	p := Policy{
		Daily:             rapid.IntRange(0, 8).Draw(rt, "daily"),
		Weekly:            rapid.IntRange(0, 5).Draw(rt, "weekly"),
		Monthly:           rapid.IntRange(0, 3).Draw(rt, "monthly"),
		PreRestore:        time.Duration(rapid.IntRange(0, 40).Draw(rt, "pre-restore")) * day,
		Invalid:           time.Duration(rapid.IntRange(0, 40).Draw(rt, "invalid")) * day,
		KeepWithin:        time.Duration(rapid.IntRange(0, 72).Draw(rt, "keep within")) * time.Hour,
		Suspect:           time.Duration(rapid.IntRange(0, 40).Draw(rt, "suspect")) * day,
		WeekStart:         time.Weekday(rapid.IntRange(0, 6).Draw(rt, "week start")),
		MaxDeleteFraction: rapid.Float64Range(0, 1).Draw(rt, "fraction"),
		Location:          location,
	}
	if p.Daily+p.Weekly+p.Monthly == 0 {
		p.Daily = 1
	}
	return p
}

// check runs a property in three zones.
func check(t *testing.T, property func(*rapid.T, []Snapshot, Policy, time.Time)) {
	t.Helper()
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York"} {
		location := zone(t, name)
		t.Run(name, rapid.MakeCheck(func(rt *rapid.T) {
			snapshots, now := history(rt, location)
			property(rt, snapshots, policy(rt, location), now)
		}))
	}
}

// deleted returns the stamps that a plan deletes.
func deleted(d Decision) map[string]bool {
	found := map[string]bool{}
	for _, v := range d.Delete() {
		found[v.Stamp] = true
	}
	return found
}

// subset fails where one plan deletes what another does not.
func subset(rt *rapid.T, fewer, more Decision) {
	allowed := deleted(more)
	for stamp := range deleted(fewer) {
		if !allowed[stamp] {
			rt.Errorf("%s is deleted too", stamp)
		}
	}
}

// kept returns the snapshots that survive a plan.
func kept(snapshots []Snapshot, d Decision) []Snapshot {
	gone := deleted(d)
	return slices.DeleteFunc(slices.Clone(snapshots), func(s Snapshot) bool { return gone[s.Stamp] })
}

func TestPlanNeverDeletes(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		gone := deleted(Plan(snapshots, p, now))
		var newest, full, preRestore Snapshot
		for _, s := range snapshots {
			if (s.Pinned || s.InUse != "" || s.Time.After(now) || s.Kind == "hourly") && gone[s.Stamp] {
				rt.Errorf("deleted %+v", s)
			}
			if s.Time.After(now) || s.Kind == "hourly" {
				continue
			}
			if s.Valid && s.Time.After(newest.Time) {
				newest = s
			}
			if s.Valid && s.Full && s.Time.After(full.Time) {
				full = s
			}
			if s.Kind == KindPreRestore && s.Time.After(preRestore.Time) {
				preRestore = s
			}
		}
		for _, s := range []Snapshot{newest, full, preRestore} {
			if gone[s.Stamp] {
				rt.Errorf("deleted the newest: %+v", s)
			}
		}
	})
}

// TestPlanLatestStays is about what a restore of "latest" takes.
func TestPlanLatestStays(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		latest := func(of []Snapshot) (found string) {
			for _, s := range of {
				if s.Valid && s.Kind != KindPreRestore && s.Kind != "hourly" && !s.Time.After(now) && s.Stamp > found {
					found = s.Stamp
				}
			}
			return found
		}
		left := kept(snapshots, Plan(snapshots, p, now))
		if before, after := latest(snapshots), latest(left); before != after {
			rt.Errorf("latest was %s and is %s", before, after)
		}
	})
}

func TestPlanIgnoresOrder(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		shuffled := rapid.Permutation(snapshots).Draw(rt, "shuffled")
		given := slices.Clone(shuffled)
		a, b := Plan(snapshots, p, now), Plan(shuffled, p, now)
		if !reflect.DeepEqual(a, b) {
			rt.Errorf("order matters:\n%+v\n%+v", a, b)
		}
		if !slices.Equal(given, shuffled) {
			rt.Error("the input was changed")
		}
	})
}

func TestPlanTwiceDeletesNothingMore(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		again := Plan(kept(snapshots, Plan(snapshots, p, now)), p, now)
		if len(again.Delete()) != 0 || again.Held {
			rt.Errorf("the second plan deletes %v", again.Delete())
		}
	})
}

func TestPlanEmptyPolicyDeletesNothing(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		for _, count := range []int{0, -1} {
			p.Daily, p.Weekly, p.Monthly = count, count, count
			if d := Plan(snapshots, p, now); len(d.Delete()) != 0 || d.Held {
				rt.Errorf("count %d deletes %v", count, d.Delete())
			}
		}
	})
}

func TestPlanMoreNeverDeletesMore(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		more := p
		more.Daily += rapid.IntRange(0, 9).Draw(rt, "more daily")
		more.Weekly += rapid.IntRange(0, 9).Draw(rt, "more weekly")
		more.Monthly += rapid.IntRange(0, 9).Draw(rt, "more monthly")
		more.PreRestore += time.Duration(rapid.IntRange(0, 9).Draw(rt, "longer")) * day
		more.KeepWithin += time.Duration(rapid.IntRange(0, 99).Draw(rt, "longer within")) * time.Hour
		more.Suspect += time.Duration(rapid.IntRange(0, 9).Draw(rt, "longer suspect")) * day
		more.Invalid += time.Duration(rapid.IntRange(0, 9).Draw(rt, "longer too")) * day
		subset(rt, Plan(snapshots, more, now), Plan(snapshots, p, now))
	})
}

// TestPlanClockBack: what an earlier now deletes, a later one deletes too.
func TestPlanClockBack(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		back := time.Duration(rapid.IntRange(0, 50*24).Draw(rt, "back")) * time.Hour
		subset(rt, Plan(snapshots, p, now.Add(-back)), Plan(snapshots, p, now))
	})
}

// TestPlanOffForLong: time alone deletes nothing that is valid and holds a
// slot, and the first snapshot after it takes at most one day, week and month
// of ours, and of the adopted ones.
func TestPlanOffForLong(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		p.Daily, p.KeepWithin, p.Suspect = max(p.Daily, 1), 0, 0
		snapshots = slices.DeleteFunc(snapshots, func(s Snapshot) bool {
			return s.Time.After(now) || s.Kind == KindPreRestore || !s.Valid
		})
		left := kept(snapshots, Plan(snapshots, p, now))
		back := now.AddDate(0, rapid.IntRange(1, 30).Draw(rt, "months off"), 0)
		if gone := Plan(left, p, back).Delete(); len(gone) != 0 {
			rt.Errorf("time alone deleted %v", gone)
		}
		first := Snapshot{Stamp: back.UTC().Format(StampLayout), Time: back, Kind: KindDaily, Valid: true}
		gone := Plan(append(left, first), p, back).Delete()
		ours := slices.DeleteFunc(slices.Clone(gone), func(v Verdict) bool {
			return slices.ContainsFunc(
				left,
				func(s Snapshot) bool { return s.Stamp == v.Stamp && s.Kind == KindAdopted },
			)
		})
		if len(ours) > 3 || len(gone)-len(ours) > 3 {
			rt.Errorf("the first snapshot after it deleted %v", gone)
		}
	})
}

// TestPlanForgedChangesNothing: stamps from the future, of unknown kinds or
// that lie about their time move no other verdict, not even by a reason.
func TestPlanForgedChangesNothing(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		before := Plan(snapshots, p, now)
		forged := slices.Clone(snapshots)
		for i := range rapid.IntRange(1, 20).Draw(rt, "forged") {
			// A second beside the hours on which the history lies.
			past := now.Add(-time.Duration(i)*time.Hour - time.Second).UTC()
			future := now.Add(time.Duration(i)*time.Hour + time.Second).UTC()
			forged = append(forged,
				Snapshot{Stamp: future.Format(StampLayout), Time: future, Kind: KindDaily, Valid: true, Full: true},
				Snapshot{Stamp: past.Format(StampLayout), Time: past, Kind: "forged", Valid: true, Full: true},
				Snapshot{Stamp: fmt.Sprintf("forged%d", i), Time: past, Kind: KindDaily, Valid: true, Full: true})
		}
		after := Plan(forged, p, now)
		verdicts := map[string]Verdict{}
		for _, v := range after.Verdicts {
			verdicts[v.Stamp] = v
		}
		for i, v := range before.Verdicts {
			twin := i > 0 && before.Verdicts[i-1].Stamp == v.Stamp ||
				i+1 < len(before.Verdicts) && before.Verdicts[i+1].Stamp == v.Stamp
			if got := verdicts[v.Stamp]; !twin && !reflect.DeepEqual(got, v) {
				rt.Errorf("was %+v, is %+v", v, got)
			}
		}
		if before.HeldReason != after.HeldReason || len(deleted(before)) != len(deleted(after)) {
			rt.Errorf("was held %q, is %q", before.HeldReason, after.HeldReason)
		}
	})
}

// TestPlanAdoptedDeletesNothingOfOurs: whatever another program wrote into the
// directory, what this one took is kept as if it were not there.
func TestPlanAdoptedDeletesNothingOfOurs(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		var ours []Snapshot
		for _, s := range snapshots {
			twin := slices.ContainsFunc(
				snapshots,
				func(o Snapshot) bool { return o.Stamp == s.Stamp && o.Kind == KindAdopted },
			)
			if s.Kind != KindAdopted && !twin {
				ours = append(ours, s)
			}
		}
		without := deleted(Plan(ours, p, now))
		gone := deleted(Plan(snapshots, p, now))
		for _, s := range ours {
			if gone[s.Stamp] && !without[s.Stamp] {
				rt.Errorf("adopted ones delete %+v", s)
			}
		}
	})
}

// TestPlanSuspectProtects: nothing that was valid before a suspect snapshot is
// deleted while its time runs, and all of it may be once it is accepted.
func TestPlanSuspectProtects(t *testing.T) {
	check(t, func(rt *rapid.T, snapshots []Snapshot, p Policy, now time.Time) {
		gone := deleted(Plan(snapshots, p, now))
		for _, suspect := range snapshots {
			if !suspect.Suspect || suspect.Kind == "hourly" || suspect.Time.After(now) ||
				now.Sub(suspect.Time) > p.Suspect ||
				p.Suspect == 0 {
				continue
			}
			if slices.ContainsFunc(
				snapshots,
				func(o Snapshot) bool { return o.Stamp == suspect.Stamp && o != suspect },
			) {
				continue
			}
			for _, s := range snapshots {
				if s.Valid && s.Time.Before(suspect.Time) && gone[s.Stamp] {
					rt.Errorf("%s is deleted before %s", s.Stamp, suspect.Stamp)
				}
			}
		}
	})
}
