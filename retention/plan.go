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

// plan is what the verdicts are read from. A newest one that does not exist is
// the zero Snapshot.
type plan struct {
	policy Policy
	now    time.Time
	listed map[string]int // stamp: how often it was given
	tiers  []*tier

	newestValid      Snapshot // of the kinds that hold slots
	newestFull       Snapshot
	newestOwn        Snapshot // … that was not adopted
	newestOwnFull    Snapshot
	newestAnyValid   Snapshot // pre-restore ones included, adopted ones not
	newestAnyFull    Snapshot
	newestPreRestore Snapshot

	lastSuspect Snapshot // the newest whose protection has not ended
}

// Plan returns a verdict on every snapshot, with all its reasons. now is the moment
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
		anomaly := pl.anomaly(s)
		switch {
		case anomaly != "" && (i == 0 || ordered[i-1].Stamp != s.Stamp):
			d.Warnings = append(d.Warnings, fmt.Sprintf("%s: %s: kept, and counted nowhere", s.Stamp, anomaly))
		case anomaly == "" && s.Valid:
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
		anomaly := pl.anomaly(s)
		// A clock that was set back must not end a protection.
		if s.Suspect && (anomaly == "" || anomaly == inFuture) && pl.within(s.Time, p.Suspect) {
			pl.lastSuspect = s
		}
		if anomaly != "" {
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

// noteNewest is called for the snapshots oldest first, so the last one stays.
func (pl *plan) noteNewest(s Snapshot) {
	preRestore, adopted := s.Kind == KindPreRestore, s.Kind == KindAdopted
	note := func(newest *Snapshot, counts bool) {
		if counts {
			*newest = s
		}
	}
	note(&pl.newestPreRestore, preRestore)
	note(&pl.newestAnyValid, s.Valid && !adopted)
	note(&pl.newestAnyFull, s.Valid && !adopted && s.Full)
	note(&pl.newestValid, s.Valid && !preRestore)
	note(&pl.newestFull, s.Valid && !preRestore && s.Full)
	note(&pl.newestOwn, s.Valid && !preRestore && !adopted)
	note(&pl.newestOwnFull, s.Valid && !preRestore && !adopted && s.Full)
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

// slots returns those that s holds.
func (pl *plan) slots(s Snapshot) []Slot {
	if pl.anomaly(s) != "" || !holdsSlots(s) {
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

// whyKeep returns the reasons other than slots.
//
// A pre-restore snapshot is what somebody thought bad enough to replace, so it
// never stands in for the newest valid one: that is kept as well. Where it is
// the newest valid of all it is kept too, whatever its age. In the same way an
// adopted one never stands in for the newest of the others.
func (pl *plan) whyKeep(s Snapshot) []string {
	var reasons []string
	add := func(holds bool, reason string) {
		if holds {
			reasons = append(reasons, reason)
		}
	}
	preRestore := s.Kind == KindPreRestore
	anomaly := pl.anomaly(s)
	if anomaly == "" {
		add(s.Stamp == pl.newestValid.Stamp, "newest valid")
		add(s.Stamp == pl.newestOwn.Stamp && s.Stamp != pl.newestValid.Stamp, "newest valid that was not adopted")
		add(s.Stamp == pl.newestAnyValid.Stamp && preRestore, "newest valid of any kind")
		add(s.Stamp == pl.newestFull.Stamp, "newest full")
		add(s.Stamp == pl.newestOwnFull.Stamp && s.Stamp != pl.newestFull.Stamp, "newest full that was not adopted")
		add(s.Stamp == pl.newestAnyFull.Stamp && preRestore, "newest full of any kind")
		add(s.Stamp == pl.newestPreRestore.Stamp, "newest pre-restore")
		add(s.Valid && pl.now.Sub(s.Time) < pl.policy.KeepWithin, "younger than "+age(pl.policy.KeepWithin))
		add(s.Valid && s.Time.Before(pl.lastSuspect.Time), "valid before "+pl.lastSuspect.Stamp+", which is suspect")
		add(s.Suspect && pl.within(s.Time, pl.policy.Suspect), "suspect, and not accepted")
		add(preRestore && pl.within(s.Time, pl.policy.PreRestore), "pre-restore, kept "+age(pl.policy.PreRestore))
		add(!s.Valid && pl.within(invalidSince(s), pl.policy.Invalid), "invalid, kept "+age(pl.policy.Invalid))
		add(!s.Valid && !pl.followed(s), "invalid, but no newer valid snapshot exists")
	}
	add(s.Pinned, "pinned")
	add(s.InUse != "", "in use: "+s.InUse)
	add(anomaly != "", anomaly)
	add(len(pl.tiers) == 0, "no daily, weekly or monthly count is set: everything is kept")
	return reasons
}

// followed reports whether a valid snapshot is newer than an invalid one. An
// adopted one makes up for another adopted one alone.
func (pl *plan) followed(s Snapshot) bool {
	if s.Kind == KindAdopted {
		return pl.newestValid.Time.After(s.Time)
	}
	return pl.newestOwn.Time.After(s.Time)
}

// whyDelete says what nothing could outweigh: an age, or the slots that went to
// others. It is asked only where whyKeep and slots had nothing to say.
func (pl *plan) whyDelete(s Snapshot) []string {
	var reasons []string
	if s.Kind == KindPreRestore {
		reasons = append(reasons, "pre-restore older than "+age(pl.policy.PreRestore))
	}
	if !s.Valid {
		reason := "invalid older than "
		if invalidSince(s).After(s.Time) {
			reason = "found invalid longer ago than "
		}
		reasons = append(reasons, reason+age(pl.policy.Invalid))
	}
	if holdsSlots(s) {
		for _, t := range pl.tiers {
			reasons = append(reasons, t.lost(s))
		}
	}
	return reasons
}

const inFuture = "in the future"

// anomaly says why s can neither be deleted nor be counted, or nothing.
func (pl *plan) anomaly(s Snapshot) string {
	switch {
	case pl.listed[s.Stamp] > 1:
		return fmt.Sprintf("listed %d times", pl.listed[s.Stamp])
	case s.Time.UTC().Format(StampLayout) != s.Stamp:
		return "its time is not that of its stamp"
	case s.Time.After(pl.now):
		return inFuture
	}
	switch s.Kind {
	case KindDaily, KindWeekly, KindMonthly, KindManual, KindPreRestore, KindAdopted:
		return ""
	}
	return fmt.Sprintf("unknown kind %q", s.Kind)
}

// within reports whether a lifetime that began at a moment has not ended.
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

// holdsSlots is asked of snapshots without an anomaly: their kind is known.
func holdsSlots(s Snapshot) bool { return s.Valid && s.Kind != KindPreRestore }

// tooMany says why a plan is held, or nothing. The quotient is compared, not
// the product: 29 of 100 is exactly 0.29, whereas 0.29 times 100 is below 29.
// The negation holds the plan also where the fraction is not a number.
func tooMany(lost, valid int, fraction float64) string {
	if lost <= fewDeletions || float64(lost)/float64(valid) <= fraction {
		return ""
	}
	return fmt.Sprintf(
		"%d of %d valid snapshots would be deleted, more than max_delete_fraction %v allows",
		lost,
		valid,
		fraction,
	)
}

// age writes a lifetime: in days where it is whole days.
func age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d == Day:
		return "1 day"
	case d%Day == 0:
		return fmt.Sprintf("%d days", d/Day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
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
