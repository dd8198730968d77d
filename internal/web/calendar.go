package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// calendarMonths is how many months the calendar shows, this one included.
const calendarMonths = 6

// month is one sheet of the calendar. Weeks begin on Sunday, as retention's do.
type month struct {
	Name  string
	ID    string // YYYY-MM
	Weeks [][7]cell
}

// cell is one day of it; Day is 0 beside the month's days.
type cell struct {
	Day   int
	Today bool
	Class string // what is there, for the style: daily, weekly, monthly, spare, bad, away; "" for nothing
	Marks string // D, W, M for the slots that are held there
	Away  bool   // a copy is off-site
	Link  string // to the snapshot that says most about the day
	Label string // all of it in words
}

// mark is what one snapshot puts into the calendar.
type mark struct {
	stamp   snapshot.Stamp
	here    bool
	valid   bool
	slots   []retention.Slot
	holders []string // targets
}

// calendar lays the snapshots out by the days of the configured zone, from the first
// month that has one.
func (v *dashboardView) calendar() []month {
	marks := v.marksByDay()
	now := v.clock.now
	first := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, 1-calendarMonths, 0)
	var months []month
	for m := range calendarMonths {
		months = append(months, newMonth(first.AddDate(0, m, 0), marks, now.Format(time.DateOnly)))
	}
	for len(months) > 1 && !months[0].holdsAny() {
		months = months[1:]
	}
	return months
}

// marksByDay sorts what is here and off-site by date.
func (v *dashboardView) marksByDay() map[string][]mark {
	slots := make(map[string][]retention.Slot)
	for _, verdict := range v.state.Decision.Verdicts {
		slots[verdict.Stamp] = verdict.Slots
	}
	marks := make(map[snapshot.Stamp]mark)
	for _, s := range v.state.Snapshots {
		marks[s.Stamp] = mark{stamp: s.Stamp, here: true, valid: s.IsValid(), slots: slots[string(s.Stamp)]}
	}
	for stamp, targets := range v.state.holders() {
		m := marks[stamp]
		m.stamp, m.holders = stamp, targets
		marks[stamp] = m
	}
	byDay := make(map[string][]mark)
	for stamp, m := range marks {
		day := stamp.Time().In(v.clock.zone).Format(time.DateOnly)
		byDay[day] = append(byDay[day], m)
	}
	for _, list := range byDay {
		slices.SortFunc(list, compareMarks)
	}
	return byDay
}

// compareMarks puts first what says most about a day.
func compareMarks(a, b mark) int {
	if n := len(b.slots) - len(a.slots); n != 0 {
		return n
	}
	if a.here != b.here {
		if a.here {
			return -1
		}
		return 1
	}
	return strings.Compare(string(b.stamp), string(a.stamp))
}

// holdsAny reports whether a day of the month has a snapshot.
func (m month) holdsAny() bool {
	return slices.ContainsFunc(m.Weeks, func(week [7]cell) bool {
		return slices.ContainsFunc(week[:], func(c cell) bool { return c.Link != "" })
	})
}

func newMonth(first time.Time, marks map[string][]mark, today string) month {
	m := month{Name: first.Format("January 2006"), ID: first.Format("2006-01")}
	week, at := [7]cell{}, int(first.Weekday())
	for day := first; day.Month() == first.Month(); day = day.AddDate(0, 0, 1) {
		date := day.Format(time.DateOnly)
		week[at] = newCell(day, marks[date])
		week[at].Today = date == today
		if at++; at == len(week) {
			m.Weeks = append(m.Weeks, week)
			week, at = [7]cell{}, 0
		}
	}
	if at > 0 {
		m.Weeks = append(m.Weeks, week)
	}
	return m
}

func newCell(day time.Time, marks []mark) cell {
	c := cell{Day: day.Day()}
	if len(marks) == 0 {
		return c
	}
	c.Link = "/snapshots/" + string(marks[0].stamp)
	c.Class = marks[0].class()
	words := []string{day.Format("2 January")}
	for _, m := range marks {
		for _, slot := range m.slots {
			c.Marks += strings.ToUpper(slot.Tier[:1])
		}
		c.Away = c.Away || len(m.holders) > 0
		words = append(words, m.describe())
	}
	c.Label = strings.Join(words, "; ")
	return c
}

// class names what the day is coloured for.
func (m mark) class() string {
	switch {
	case !m.here:
		return "away"
	case !m.valid:
		return "bad"
	case len(m.slots) > 0:
		return m.slots[len(m.slots)-1].Tier // they come shortest first
	}
	return "spare"
}

func (m mark) describe() string {
	words := []string{string(m.stamp)}
	for _, slot := range m.slots {
		words = append(words, fmt.Sprintf("%s %d of %d", slot.Tier, slot.Number, slot.Of))
	}
	if m.here && !m.valid {
		words = append(words, "not valid")
	}
	if len(m.holders) > 0 {
		only := "off-site"
		if !m.here {
			only = "only off-site"
		}
		words = append(words, only+" on "+strings.Join(m.holders, " and "))
	}
	return strings.Join(words, ", ")
}
