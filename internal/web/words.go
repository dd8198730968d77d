package web

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// clock writes times as a person in the configured zone says them at now.
type clock struct {
	now  time.Time
	zone *time.Location
}

// newClock is for a State, whose zone may be missing.
func newClock(state *State) clock {
	zone := state.Location
	if zone == nil {
		zone = time.UTC
	}
	return clock{state.Now.In(zone), zone}
}

// moment is one time in the three ways in which a page needs it.
type moment struct {
	ISO   string // for machines
	Exact string // with date and zone
	Words string // "06:00 today"
}

func (c clock) moment(t time.Time) moment {
	return moment{t.UTC().Format(time.RFC3339), c.exact(t), c.words(t)}
}

func (c clock) exact(t time.Time) string {
	return t.In(c.zone).Format("Monday 2 January 2006, 15:04:05 MST")
}

// words says a time by the calendar, not by hours: "yesterday" is the day
// before this one, however long ago that began.
func (c clock) words(t time.Time) string {
	t = t.In(c.zone)
	days := daysBetween(c.now, t)
	switch {
	case days == 0:
		return t.Format("15:04") + " today"
	case days == -1:
		return t.Format("15:04") + " yesterday"
	case days == 1:
		return t.Format("15:04") + " tomorrow"
	case days > -7 && days < 7:
		return t.Format("Monday 15:04")
	case t.Year() == c.now.Year():
		return t.Format("2 January, 15:04")
	}
	return t.Format("2 January 2006, 15:04")
}

// daysBetween counts midnights, on dates whose days all have 24 hours.
func daysBetween(from, to time.Time) int {
	date := func(t time.Time) time.Time {
		year, month, day := t.Date()
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	}
	return int(date(to).Sub(date(from)).Hours() / 24)
}

// zoneName names the zone and what its clocks show now: "Europe/Berlin (CEST)".
func (c clock) zoneName() string {
	name, now := c.zone.String(), c.now.Format("MST")
	if name == now {
		return name
	}
	return name + " (" + now + ")"
}

// span writes a duration in the unit in which people think of it.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "not yet"
	case d < 10*time.Second:
		return trimZero(fmt.Sprintf("%.1f", d.Seconds())) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", math.Floor(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%.0f h", math.Floor(d.Hours()))
	}
	return fmt.Sprintf("%.0f days", math.Floor(d.Hours()/24))
}

func trimZero(s string) string { return strings.TrimSuffix(s, ".0") }

// size writes bytes in binary units.
func size(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// sentence begins with a capital letter and ends with a stop.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	first := []rune(s)[:1]
	s = strings.ToUpper(string(first)) + strings.TrimPrefix(s, string(first))
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "!") || strings.HasSuffix(s, "?") {
		return s
	}
	return s + "."
}
