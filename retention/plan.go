package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// fewDeletions is the number of valid snapshots that a plan may delete whatever
// part of them all that is: with four snapshots, one is a quarter.
const fewDeletions = 3

// plan is what the verdicts are read from. Newest ones are stamps, empty where
// there is none.
type plan struct {
	policy Policy
	now    time.Time
	listed map[string]int // stamp: how often it was given
	tiers  []*tier

	newestValid      string // of the kinds that hold slots
	newestFull       string
	newestAnyValid   string // pre-restore ones included
	newestAnyFull    string
	newestPreRestore string

	lastValid time.Time // of newestValid
}

// Plan gives every snapshot a verdict with all its reasons. now is the moment
// for which ages and the future are judged; the newest of everything is kept
// whatever now says.
func Plan(snapshots []Snapshot, p Policy, now time.Time) Decision {
	ordered := slices.Clone(snapshots)
	slices.SortFunc(ordered, oldestFirst)
	pl := newPlan(ordered, p, now)

	var d Decision
	valid, lost := 0, 0
	for i, s := range ordered {
		v := pl.judge(s)
		d.Verdicts = append(d.Verdicts, v)
		oddity := pl.oddity(s)
		switch {
		case oddity != "" && (i == 0 || ordered[i-1].Stamp != s.Stamp):
			d.Warnings = append(d.Warnings, fmt.Sprintf("%s: %s: kept, and counted nowhere", s.Stamp, oddity))
		case oddity == "" && s.Valid:
			valid++
			if !v.Keep {
				lost++
			}
		}
	}
	d.HeldReason = tooMany(lost, valid, p.MaxDeleteFraction)
	d.Held = d.HeldReason != ""
	return d
}

// newPlan finds who holds what. ordered is oldest first.
func newPlan(ordered []Snapshot, p Policy, now time.Time) *plan {
	pl := &plan{policy: p, now: now, listed: map[string]int{}}
	for _, s := range ordered {
		pl.listed[s.Stamp]++
	}
	var holders []Snapshot
	for _, s := range ordered {
		if pl.oddity(s) != "" {
			continue
		}
		pl.noteNewest(s)
		if holdsSlots(s) {
			holders = append(holders, s)
		}
	}
	pl.tiers = newTiers(p, holders)
	return pl
}

// noteNewest is given the snapshots oldest first, so the last one stays.
func (pl *plan) noteNewest(s Snapshot) {
	if s.Kind == KindPreRestore {
		pl.newestPreRestore = s.Stamp
	}
	if !s.Valid {
		return
	}
	pl.newestAnyValid = s.Stamp
	if s.Full {
		pl.newestAnyFull = s.Stamp
	}
	if s.Kind == KindPreRestore {
		return
	}
	pl.newestValid, pl.lastValid = s.Stamp, s.Time
	if s.Full {
		pl.newestFull = s.Stamp
	}
}

// judge keeps what has a reason to be kept.
func (pl *plan) judge(s Snapshot) Verdict {
	v := Verdict{Stamp: s.Stamp, Slots: pl.slots(s)}
	for _, slot := range v.Slots {
		v.Reasons = append(v.Reasons, slot.Label)
	}
	v.Reasons = append(v.Reasons, pl.whyKeep(s)...)
	v.Keep = len(v.Reasons) > 0
	if !v.Keep {
		v.Reasons = pl.whyDelete(s)
	}
	return v
}

// slots gives those that s holds.
func (pl *plan) slots(s Snapshot) []Slot {
	if pl.oddity(s) != "" || !holdsSlots(s) {
		return nil
	}
	var held []Slot
	for _, t := range pl.tiers {
		if slot, ok := t.slot(s); ok {
			held = append(held, slot)
		}
	}
	return held
}

// whyKeep gives the reasons other than slots.
//
// A pre-restore snapshot is what somebody thought bad enough to replace, so it
// never stands in for the newest valid one: that is kept as well. Where it is
// the newest valid of all it is kept too, whatever its age.
func (pl *plan) whyKeep(s Snapshot) []string {
	var reasons []string
	add := func(holds bool, reason string) {
		if holds {
			reasons = append(reasons, reason)
		}
	}
	preRestore := s.Kind == KindPreRestore
	oddity := pl.oddity(s)
	if oddity == "" {
		add(s.Stamp == pl.newestValid, "newest valid")
		add(s.Stamp == pl.newestAnyValid && preRestore, "newest valid of any kind")
		add(s.Stamp == pl.newestFull, "newest full")
		add(s.Stamp == pl.newestAnyFull && preRestore, "newest full of any kind")
		add(s.Stamp == pl.newestPreRestore, "newest pre-restore")
		add(preRestore && pl.within(s.Time, pl.policy.PreRestore), "pre-restore, kept "+days(pl.policy.PreRestore))
		add(!s.Valid && pl.within(invalidSince(s), pl.policy.Invalid), "invalid, kept "+days(pl.policy.Invalid))
		add(!s.Valid && (pl.newestValid == "" || s.Time.After(pl.lastValid)), "invalid, but no newer valid snapshot exists")
	}
	add(s.Pinned, "pinned")
	add(s.InUse != "", "in use: "+s.InUse)
	add(oddity != "", oddity)
	add(len(pl.tiers) == 0, "no daily, weekly or monthly count is set: everything is kept")
	return reasons
}

// whyDelete says what nothing could outweigh: an age, or the slots that went to
// others. It is asked only where whyKeep and slots had nothing to say.
func (pl *plan) whyDelete(s Snapshot) []string {
	var reasons []string
	if s.Kind == KindPreRestore {
		reasons = append(reasons, "pre-restore older than "+days(pl.policy.PreRestore))
	}
	if !s.Valid {
		reason := "invalid older than "
		if invalidSince(s).After(s.Time) {
			reason = "found invalid longer ago than "
		}
		reasons = append(reasons, reason+days(pl.policy.Invalid))
	}
	if holdsSlots(s) {
		for _, t := range pl.tiers {
			reasons = append(reasons, t.lost(s))
		}
	}
	return reasons
}

// oddity says why s can neither be deleted nor be counted, or nothing.
func (pl *plan) oddity(s Snapshot) string {
	switch {
	case pl.listed[s.Stamp] > 1:
		return fmt.Sprintf("listed %d times", pl.listed[s.Stamp])
	case s.Time.UTC().Format(StampLayout) != s.Stamp:
		return "its time is not that of its stamp"
	case s.Time.After(pl.now):
		return "in the future"
	}
	switch s.Kind {
	case KindDaily, KindWeekly, KindManual, KindPreRestore, KindAdopted:
		return ""
	}
	return fmt.Sprintf("unknown kind %q", s.Kind)
}

// within tells whether a lifetime that began at a moment has not ended.
func (pl *plan) within(began time.Time, lifetime time.Duration) bool {
	return lifetime > 0 && pl.now.Sub(began) <= lifetime
}

// invalidSince is never before the snapshot itself.
func invalidSince(s Snapshot) time.Time {
	if s.InvalidSince.After(s.Time) {
		return s.InvalidSince
	}
	return s.Time
}

// holdsSlots is asked of snapshots without an oddity: their kind is known.
func holdsSlots(s Snapshot) bool { return s.Valid && s.Kind != KindPreRestore }

// tooMany says why a plan is held, or nothing. The quotient is compared, not
// the product: 29 of 100 is exactly 0.29, whereas 0.29 times 100 is below 29.
// The negation holds the plan also where the fraction is not a number.
func tooMany(lost, valid int, fraction float64) string {
	if lost <= fewDeletions || float64(lost)/float64(valid) <= fraction {
		return ""
	}
	return fmt.Sprintf("%d of %d valid snapshots would be deleted, more than max_delete_fraction %v allows", lost, valid, fraction)
}

// days writes a lifetime: in days where it is whole days.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d, 0)
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

// oldestFirst orders by time, then stamp. What still compares equal is listed
// twice; the rest of it decides, so that the order of the input never does.
func oldestFirst(a, b Snapshot) int {
	if c := cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Stamp, b.Stamp)); c != 0 {
		return c
	}
	return strings.Compare(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b))
}
