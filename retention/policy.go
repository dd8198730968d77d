package retention

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// Day is 24 hours. Calendar days of a zone may have 23 or 25; ages do not care.
const Day = 24 * time.Hour

// Policy says how much to keep. The configuration has a form of its own, in the
// units that an operator writes; everything else, also a vault's files, has this.
//
// When no count is above zero everything is kept, whatever the rest says: an
// empty policy deletes nothing. A count of zero or less beside a positive one
// keeps nothing for that reason.
type Policy struct {
	Daily   int // calendar days that have a snapshot
	Weekly  int // weeks, from WeekStart on, that have one
	Monthly int // calendar months that have one

	// KeepWithin is the age below which every valid snapshot is kept. Zero or less
	// keeps none for its age.
	KeepWithin time.Duration

	// Suspect is for how long after a suspect snapshot what was valid before it
	// is kept. Zero or less keeps nothing for that reason.
	Suspect time.Duration

	// PreRestore and Invalid are the ages up to which snapshots of kind
	// pre-restore and invalid ones are kept. Zero or less keeps none for its
	// age; the newest pre-restore one, and an invalid one that no valid one
	// follows, stay all the same.
	PreRestore time.Duration
	Invalid    time.Duration

	// MaxDeleteFraction holds a plan that would delete a larger part of the
	// valid snapshots, and more than three of them. It is taken literally: 1
	// turns the guard off; zero, less, or not-a-number holds every plan that
	// deletes more than three, so a field that was never set guards most.
	MaxDeleteFraction float64

	Location  *time.Location // whose days, weeks and months; nil is UTC
	WeekStart time.Weekday   // the first day of a week
}

// KeepsAll reports whether the policy deletes nothing.
func (p Policy) KeepsAll() bool { return p.Daily <= 0 && p.Weekly <= 0 && p.Monthly <= 0 }

// Lengthen returns p with whatever q keeps for longer. How days and weeks are
// counted, and how much may be deleted at once, stays p's.
func (p Policy) Lengthen(q Policy) Policy {
	if p.KeepsAll() || q.KeepsAll() {
		p.Daily, p.Weekly, p.Monthly = 0, 0, 0
	} else {
		p.Daily, p.Weekly, p.Monthly = max(p.Daily, q.Daily), max(p.Weekly, q.Weekly), max(p.Monthly, q.Monthly)
	}
	p.KeepWithin = max(p.KeepWithin, q.KeepWithin)
	p.Suspect = max(p.Suspect, q.Suspect)
	p.PreRestore = max(p.PreRestore, q.PreRestore)
	p.Invalid = max(p.Invalid, q.Invalid)
	return p
}

// Check refuses a policy that was read from a file or asked for by an operator and
// that nobody can have meant: with a count or an age below zero, a fraction that is
// none, or a time zone that this machine does not know.
func (p Policy) Check() error {
	for _, count := range []struct {
		name string
		n    int64
	}{
		{"daily", int64(p.Daily)}, {"weekly", int64(p.Weekly)}, {"monthly", int64(p.Monthly)},
		{"keep_within", int64(p.KeepWithin)}, {"pre_restore_days", int64(p.PreRestore)},
		{"suspect_days", int64(p.Suspect)}, {"invalid_days", int64(p.Invalid)},
	} {
		if count.n < 0 {
			return fmt.Errorf("%s must not be below zero", count.name)
		}
	}
	if f := p.MaxDeleteFraction; !(f >= 0 && f <= 1) {
		return fmt.Errorf("max_delete_fraction = %v: must be from 0 to 1", f)
	}
	if p.WeekStart < time.Sunday || p.WeekStart > time.Saturday {
		return fmt.Errorf("week_start: %d is no weekday", p.WeekStart)
	}
	_, err := time.LoadLocation(p.zone())
	return err
}

func (p Policy) zone() string {
	if p.Location == nil {
		return time.UTC.String()
	}
	return p.Location.String()
}

// document is a policy as a vault's files hold it: ages that a person sets in
// whole days are numbers of days there.
type document struct {
	Daily             int     `json:"daily"`
	Weekly            int     `json:"weekly"`
	Monthly           int     `json:"monthly"`
	KeepWithin        string  `json:"keep_within,omitempty"` // as Go writes it, e.g. "48h0m0s"
	PreRestoreDays    int64   `json:"pre_restore_days"`
	SuspectDays       int64   `json:"suspect_days,omitempty"`
	InvalidDays       int64   `json:"invalid_days"`
	MaxDeleteFraction float64 `json:"max_delete_fraction"`
	Timezone          string  `json:"timezone"`
	WeekStart         string  `json:"week_start,omitempty"` // "sunday", the default, to "saturday"
}

// MarshalJSON writes the form of a vault's files.
func (p Policy) MarshalJSON() ([]byte, error) {
	return json.Marshal(document{
		Daily: p.Daily, Weekly: p.Weekly, Monthly: p.Monthly, KeepWithin: p.KeepWithin.String(),
		PreRestoreDays: int64(
			p.PreRestore / Day,
		), SuspectDays: int64(p.Suspect / Day), InvalidDays: int64(p.Invalid / Day),
		MaxDeleteFraction: p.MaxDeleteFraction, Timezone: p.zone(), WeekStart: strings.ToLower(p.WeekStart.String()),
	})
}

// UnmarshalJSON reads the form of a vault's files. A time zone that this machine
// does not know keeps its name and has UTC's days until Check refuses it: pins
// and counts beside it are understood all the same.
func (p *Policy) UnmarshalJSON(data []byte) error {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	read := Policy{
		Daily: d.Daily, Weekly: d.Weekly, Monthly: d.Monthly,
		PreRestore: days(d.PreRestoreDays), Suspect: days(d.SuspectDays), Invalid: days(d.InvalidDays),
		MaxDeleteFraction: d.MaxDeleteFraction,
	}
	var err error
	if read.Location, err = time.LoadLocation(d.Timezone); err != nil {
		read.Location = time.FixedZone(d.Timezone, 0)
	}
	if d.KeepWithin != "" {
		if read.KeepWithin, err = time.ParseDuration(d.KeepWithin); err != nil {
			return fmt.Errorf("keep_within: %w", err)
		}
	}
	if d.WeekStart != "" { // an older vault has none
		if read.WeekStart, err = ParseWeekday(d.WeekStart); err != nil {
			return fmt.Errorf("week_start: %w", err)
		}
	}
	*p = read
	return nil
}

// days returns n days, or the longest duration there is where that is less.
func days(n int64) time.Duration {
	return time.Duration(max(min(n, math.MaxInt64/int64(Day)), 0)) * Day
}

// ParseWeekday reads a weekday in English, in small or capital letters.
func ParseWeekday(name string) (time.Weekday, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.EqualFold(name, day.String()) {
			return day, nil
		}
	}
	return 0, fmt.Errorf("%q is no weekday", name)
}
