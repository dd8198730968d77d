package scheduler

import "time"

// The parser's own Next walks instants and trips over clock changes. Here it
// only walks clock readings, which know none: a reading is what the clock on
// the wall shows, written as a UTC time. This file turns readings into
// instants and back.

// era is a stretch of time in which a zone's clock runs evenly.
type era struct {
	start, end time.Time // zero where there is no such end
	offset     time.Duration
}

func (c *Cron) eraAt(t time.Time) era {
	local := t.In(c.loc)
	start, end := local.ZoneBounds()
	_, seconds := local.Zone()
	return era{start: start, end: end, offset: time.Duration(seconds) * time.Second}
}

func (e era) reading(t time.Time) time.Time    { return t.UTC().Add(e.offset) }
func (e era) instant(read time.Time) time.Time { return read.Add(-e.offset) }

// holds reports whether t, which is not before the era, lies in it.
func (e era) holds(t time.Time) bool { return e.end.IsZero() || t.Before(e.end) }

// nextShown returns the first instant after a time at which the clock matches.
func (c *Cron) nextShown(after time.Time) time.Time {
	e := c.eraAt(after)
	from := e.reading(after)
	for {
		read := c.civil.Next(from)
		if read.IsZero() {
			return time.Time{}
		}
		if t := e.instant(read); e.holds(t) {
			return t.In(c.loc)
		}
		e = c.eraAt(e.end)
		from = e.reading(e.start).Add(-1) // so that the first reading counts
	}
}

// nextNamed returns the first instant after a time at which the clock shows, for
// the first time, a matching reading or one beyond it. Readings that the clock
// has passed before are over, even while it shows them again.
func (c *Cron) nextNamed(after time.Time) time.Time {
	read := c.civil.Next(c.highest(after))
	if read.IsZero() {
		return time.Time{}
	}
	for e := c.eraAt(after); ; e = c.eraAt(e.end) {
		t := e.instant(read)
		if t.Before(e.start) { // the reading fell into the gap before this era
			t = e.start
		}
		if e.holds(t) {
			return t.In(c.loc)
		}
	}
}

// highest returns the highest reading that the clock had shown by a time. It is
// not the present one for a while after the clock was put back. No zone was
// ever put back by more than a day.
func (c *Cron) highest(by time.Time) time.Time {
	const longest = 26 * time.Hour
	e := c.eraAt(by)
	high := e.reading(by)
	for !e.start.IsZero() && by.Sub(e.start) < longest {
		before := c.eraAt(e.start.Add(-1))
		if top := before.reading(e.start).Add(-1); top.After(high) {
			high = top
		}
		e = before
	}
	return high
}
