package scheduler

import "time"

// How far LongestGap looks. Five years hold a 29 February; an expression that
// is due more often shows its longest pause within some thousand slots.
const (
	gapYears = 5
	gapSlots = 5000
)

// LongestGap returns the longest time between two neighbouring slots of several
// schedules taken together, e.g. from Friday to Monday for weekdays; 0 when none
// of them is on. It walks from a fixed date, so the answer is the same on every
// day.
func LongestGap(crons ...*Cron) time.Duration {
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	end := start.AddDate(gapYears, 0, 0)
	next := make([]time.Time, len(crons))
	for i, c := range crons {
		next[i] = c.Next(start)
	}
	var longest time.Duration
	var last time.Time
	for range gapSlots {
		var slot time.Time
		for _, t := range next {
			if !t.IsZero() && (slot.IsZero() || t.Before(slot)) {
				slot = t
			}
		}
		if slot.IsZero() || slot.After(end) && longest > 0 {
			break
		}
		if !last.IsZero() {
			longest = max(longest, slot.Sub(last))
		}
		last = slot
		for i, c := range crons {
			if next[i].Equal(slot) {
				next[i] = c.Next(slot)
			}
		}
	}
	return longest
}
