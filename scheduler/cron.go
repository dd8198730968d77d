package scheduler

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Cron says at which instants a job is due: its slots. A *Cron never changes
// and may be shared. nil is a job that is off.
//
// How slots meet the two clock changes of a year:
//
//   - A fixed expression, one that names its hours ("30 2 * * *", "0 1-5 * * *",
//     "@daily"), has exactly one slot for each wall time that it names, on every
//     day. The slot is the first instant at which the clock shows that time or
//     a later one. A time that spring skips is due at the first instant after
//     the gap; a time that autumn shows twice is due at its first showing.
//     Several times inside one gap are one slot.
//   - An expression whose hours are open ("*/15 * * * *", "0 */2 * * *",
//     "@hourly") follows the clock on the wall: its slots are all the instants
//     at which the clock matches. It runs through both showings of the hour
//     that autumn repeats, and has nothing to do in the one that spring skips.
//   - "@every 1h" knows no wall clock: its slots lie whole multiples of the
//     interval after the last one that was served. The first of all counts from
//     the start that the Store persisted, so restarts do not shift them.
type Cron struct {
	expr  string
	loc   *time.Location
	civil *cron.SpecSchedule // in UTC, over clock readings; nil for @every
	open  bool               // the hour field has a wildcard
	every time.Duration      // for @every
}

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Parse reads a cron expression: five fields, "@daily" and its like, or
// "@every 90m". loc is the zone whose clock it follows; nil means UTC. The
// empty expression, which turns a job off, is nil and no error. A zone
// inside the expression is refused, and so is a date that never comes.
func Parse(expr string, loc *time.Location) (*Cron, error) {
	expr = strings.TrimSpace(expr)
	if expr == "" {
		return nil, nil
	}
	if loc == nil {
		loc = time.UTC
	}
	// The parser would honour the prefix, and panics when nothing follows it.
	if strings.HasPrefix(expr, "TZ=") || strings.HasPrefix(expr, "CRON_TZ=") {
		return nil, fmt.Errorf("cron expression %q: a zone does not belong here: set schedule.timezone", expr)
	}
	if d, ok := strings.CutPrefix(expr, "@every "); ok {
		return parseEvery(expr, strings.TrimSpace(d), loc)
	}
	schedule, err := parser.Parse(expr)
	if err != nil {
		return nil, fmt.Errorf("cron expression %q: %w: five fields are minute, hour, day of month, month, day of "+
			"week (Sunday is 0)", expr, err)
	}
	civil, ok := schedule.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("cron expression %q: unsupported", expr)
	}
	civil.Location = time.UTC
	// Any leap year does: the search covers five years.
	if civil.Next(time.Date(2000, 1, 1, 0, 0, 0, -1, time.UTC)).IsZero() {
		return nil, fmt.Errorf("cron expression %q: that date never comes", expr)
	}
	return &Cron{expr: expr, loc: loc, civil: civil, open: openHours(expr, civil)}, nil
}

func parseEvery(expr, interval string, loc *time.Location) (*Cron, error) {
	d, err := time.ParseDuration(interval)
	if err != nil {
		return nil, fmt.Errorf("cron expression %q: %w", expr, err)
	}
	if d < time.Second {
		return nil, fmt.Errorf("cron expression %q: the interval is at least 1s", expr)
	}
	return &Cron{expr: expr, loc: loc, every: d.Truncate(time.Second)}, nil
}

// openHours tells "*", "*/2" and the like from hours that are named. The
// parser drops the star of "*/2", so the text decides.
func openHours(expr string, civil *cron.SpecSchedule) bool {
	const day = 1<<24 - 1
	if civil.Hour&day == day {
		return true
	}
	fields := strings.Fields(expr)
	return len(fields) == 5 && strings.ContainsAny(fields[1], "*?")
}

// Every is the schedule of "@every d", for jobs that are not in a
// configuration. d is cut to whole seconds and is at least one.
func Every(d time.Duration) *Cron {
	d = max(d.Truncate(time.Second), time.Second)
	return &Cron{expr: "@every " + d.String(), loc: time.UTC, every: d}
}

// String returns the expression; "" for nil.
func (c *Cron) String() string {
	if c == nil {
		return ""
	}
	return c.expr
}

// Location returns the zone whose clock the expression follows; UTC for nil.
func (c *Cron) Location() *time.Location {
	if c == nil {
		return time.UTC
	}
	return c.loc
}

// Weekday returns the one weekday on which the schedule runs, and false when it
// runs on several, on all, on days of the month as well, or by an interval.
func (c *Cron) Weekday() (time.Weekday, bool) {
	const star = 1 << 63
	if c == nil || c.every > 0 || c.civil.Dow&star != 0 || c.civil.Dom&star == 0 || bits.OnesCount64(c.civil.Dow) != 1 {
		return 0, false
	}
	return time.Weekday(bits.TrailingZeros64(c.civil.Dow)), true
}

// Next returns the first slot after a time, in the schedule's zone. For @every
// that time must itself be a slot, or the start. The zero time means never,
// which is what nil says.
func (c *Cron) Next(after time.Time) time.Time {
	switch {
	case c == nil:
		return time.Time{}
	case c.every > 0:
		return after.Round(0).Add(c.every).In(c.loc)
	case c.open:
		return c.nextShown(after.Round(0))
	}
	return c.nextNamed(after.Round(0))
}

// Due returns the slots in (served, now], oldest first: the newest limit of
// them, and whether there are more. The work is bounded by limit, however long
// ago served is.
func (c *Cron) Due(served, now time.Time, limit int) (slots []time.Time, more bool) {
	if c == nil || limit < 1 || !now.After(served) {
		return nil, false
	}
	if c.every > 0 {
		return c.dueEvery(served.Round(0), now, limit)
	}
	const century = 100 * 365 * 24 * time.Hour
	for window := time.Hour; ; window *= 8 {
		from := now.Add(-window)
		all := window > century || !from.After(served)
		if all {
			from = served
		}
		slots = slots[:0]
		for t := c.Next(from); !t.IsZero() && !t.After(now); t = c.Next(t) {
			slots = append(slots, t)
		}
		if len(slots) > limit {
			return slots[len(slots)-limit:], true
		}
		if all {
			return slots, false
		}
	}
}

func (c *Cron) dueEvery(served, now time.Time, limit int) (slots []time.Time, more bool) {
	count := int64(now.Sub(served) / c.every)
	first := max(1, count-int64(limit)+1)
	for k := first; k <= count; k++ {
		slots = append(slots, served.Add(time.Duration(k)*c.every).In(c.loc))
	}
	return slots, first > 1
}

// Upcoming returns the next n slots after now, for people. served is the newest
// slot that was served, from which @every counts; the zero time when there is
// none, and then it counts from now.
func (c *Cron) Upcoming(served, now time.Time, n int) []time.Time {
	after := now
	if c != nil && c.every > 0 && !served.IsZero() {
		after = served.Round(0)
		if missed := now.Sub(after) / c.every; missed > 0 {
			after = after.Add(missed * c.every)
		}
	}
	var slots []time.Time
	for len(slots) < n {
		t := c.Next(after)
		if t.IsZero() {
			break
		}
		slots = append(slots, t)
		after = t
	}
	return slots
}
