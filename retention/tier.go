package retention

import (
	"fmt"
	"slices"
	"time"
)

// tier is one of daily, weekly and monthly: the calendar cut into buckets, and
// in each the snapshot that stands for it.
type tier struct {
	name, unit string
	count      int
	start      func(day time.Time) time.Time // first day of the bucket that day lies in
	preferFull bool
	location   *time.Location
	buckets    map[time.Time]*bucket // by first day
}

// bucket is one day, week or month that has a snapshot.
type bucket struct {
	start  time.Time
	day    time.Time // of the holder
	holder Snapshot
	number int // 1 is the newest; one that was not adopted is counted among its like
}

// newTiers files the snapshots that may hold slots under the policy's tiers,
// leaving out those that keep nothing.
func newTiers(p Policy, holders []Snapshot) []*tier {
	location := p.Location
	if location == nil {
		location = time.UTC
	}
	var used []*tier
	for _, t := range []*tier{
		{name: "daily", unit: "day", count: p.Daily, start: sameDay},
		{name: "weekly", unit: "week", count: p.Weekly, start: firstOfWeek(p.WeekStart), preferFull: true},
		{name: "monthly", unit: "month", count: p.Monthly, start: firstOfMonth, preferFull: true},
	} {
		if t.count <= 0 {
			continue
		}
		t.location = location
		t.fill(holders)
		used = append(used, t)
	}
	return used
}

// fill finds each bucket's holder, then numbers the buckets. Local dates do not
// always grow with time (clocks have been set back just past midnight), so
// buckets are found by date and never by neighbourhood.
func (t *tier) fill(holders []Snapshot) {
	t.buckets = map[time.Time]*bucket{}
	var all []*bucket
	for _, s := range holders {
		day := calendarDay(s.Time, t.location)
		start := t.start(day)
		b := t.buckets[start]
		if b == nil {
			b = &bucket{start: start, day: day, holder: s}
			t.buckets[start] = b
			all = append(all, b)
		} else if t.better(s, day, b) {
			b.day, b.holder = day, s
		}
	}
	slices.SortFunc(all, func(a, b *bucket) int { return b.start.Compare(a.start) })
	own := 0
	for i, b := range all {
		b.number = i + 1
		if b.holder.Kind != KindAdopted {
			own++
			b.number = own
		}
	}
}

// better reports whether s, of that day, stands for the bucket rather than its
// holder: before all one that was not adopted, then the earliest day, there a
// full one where the tier asks for it, then the newest. For daily all days of a
// bucket are one.
func (t *tier) better(s Snapshot, day time.Time, b *bucket) bool {
	if adopted := s.Kind == KindAdopted; adopted != (b.holder.Kind == KindAdopted) {
		return !adopted
	}
	if !day.Equal(b.day) {
		return day.Before(b.day)
	}
	if t.preferFull && s.Full != b.holder.Full {
		return s.Full
	}
	return s.Time.After(b.holder.Time)
}

// of returns the bucket of s, which must be among those that filled the tier.
func (t *tier) of(s Snapshot) *bucket {
	return t.buckets[t.start(calendarDay(s.Time, t.location))]
}

// slot returns the slot that s holds.
func (t *tier) slot(s Snapshot) (Slot, bool) {
	b := t.of(s)
	if b.holder.Stamp != s.Stamp || b.number > t.count {
		return Slot{}, false
	}
	return Slot{
		Tier:   t.name,
		Day:    b.day.Format(time.DateOnly),
		Number: b.number,
		Of:     t.count,
		Label: fmt.Sprintf(
			"%s %s (%s%d of %d)",
			t.name,
			b.day.Format(time.DateOnly),
			t.place(b.day),
			b.number,
			t.count,
		),
	}, true
}

// place names the day within its week or month, for the reader who wonders why
// a week is held by a Tuesday.
func (t *tier) place(day time.Time) string {
	switch t.name {
	case "weekly":
		return day.Weekday().String() + ", "
	case "monthly":
		return ordinal(day.Day()) + ", "
	}
	return ""
}

// lost says why s holds no slot here.
func (t *tier) lost(s Snapshot) string {
	b := t.of(s)
	switch {
	case b.number <= t.count:
		return fmt.Sprintf("%s %s is held by %s", t.name, b.day.Format(time.DateOnly), b.holder.Stamp)
	case t.count == 1:
		return fmt.Sprintf("older than the last %s that has a snapshot", t.unit)
	}
	return fmt.Sprintf("older than the last %d %ss that have a snapshot", t.count, t.unit)
}

// calendarDay returns the day of an instant in a place, as midnight UTC of the
// same date. Days are compared and counted there, where each has 24 hours and
// a midnight, which days with a change of clocks need not have.
func calendarDay(instant time.Time, location *time.Location) time.Time {
	year, month, day := instant.In(location).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

func sameDay(day time.Time) time.Time      { return day }
func firstOfMonth(day time.Time) time.Time { return day.AddDate(0, 0, 1-day.Day()) }

func firstOfWeek(start time.Weekday) func(day time.Time) time.Time {
	return func(day time.Time) time.Time { return day.AddDate(0, 0, -int(day.Weekday()-start+7)%7) }
}

// ordinal writes 1st, 2nd, 3rd, 4th, 11th, 21st.
func ordinal(n int) string {
	suffix := "th"
	if n/10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
