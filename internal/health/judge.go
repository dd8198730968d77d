package health

import (
	"cmp"
	"slices"
	"time"
)

// Report is how everything stands. Its JSON is part of the document of `status`.
type Report struct {
	Level      string      `json:"level"` // the worst of all
	Legs       []Leg       `json:"legs"`
	Conditions []Condition `json:"conditions"` // those that hold

	Settled []Settled `json:"-"` // how damage ended that nothing has healed
}

// Leg is how one leg stands.
type Leg struct {
	Name        string     `json:"name"`
	Level       string     `json:"level"`
	LastSuccess *time.Time `json:"last_success"`
	LastAttempt *time.Time `json:"last_attempt"`
	AgeS        *int64     `json:"age_s"` // of the last success
	Next        *time.Time `json:"next"`
	Message     string     `json:"message"`

	Headline string        `json:"-"` // the message for somebody who does not know legs
	Hint     string        `json:"-"` // what to run; "" where there is nothing to run
	Limit    time.Duration `json:"-"` // how old the last success may be
	Watched  bool          `json:"-"`
	Quiet    bool          `json:"-"` // bad, and no alarm: the schedule is about to mend it
	Away     bool          `json:"-"` // of a target: its vault was not where it was looked for last
}

// Condition is something that is wrong as long as it is true.
type Condition struct {
	Name    string     `json:"name"`
	Level   string     `json:"level"`
	Since   *time.Time `json:"since"` // null where that is not known
	Message string     `json:"message"`
	Hint    string     `json:"hint"`

	Headline string   `json:"-"`
	Parts    []string `json:"-"` // what it is made of, where that can grow
}

// Judge decides how everything stands at now.
func Judge(f Facts, now time.Time) Report {
	r := Report{Level: LevelOK, Legs: []Leg{}, Conditions: []Condition{}, Settled: f.Settled}
	takesBad := false
	for _, leg := range f.Legs {
		if leg.Holds && f.Mount != nil {
			leg.Hint = f.Mount.Hint // a take would be refused: the disk comes first
		}
		leg.Unremembered = f.History.Missing || f.History.Foreign || f.History.ReadError != ""
		v := leg.judge(f.Takes, takesBad, now)
		if leg.Name == LegSnapshot {
			takesBad = v.level == LevelCritical
		}
		l := leg.report(v, now)
		l.Away = f.vaultAway(leg.Name)
		r.Legs = append(r.Legs, l)
		r.Level = Worse(r.Level, v.level)
	}
	r.Conditions = append(r.Conditions, f.conditions(now)...)
	for _, c := range r.Conditions {
		r.Level = Worse(r.Level, c.Level)
	}
	return r
}

// report writes a verdict with the times that it was made from.
func (f LegFacts) report(v verdict, now time.Time) Leg {
	l := Leg{Name: f.Name, Level: v.level, Message: v.message, Headline: v.headline, Hint: v.hint, Limit: f.Limit,
		Watched: f.Off == "", Quiet: v.quiet}
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	success := f.LastSuccess
	if f.Holds && f.Err == nil {
		success = f.Newest // a take whose files are gone is none
	}
	l.LastSuccess, l.LastAttempt, l.Next = at(success), at(f.LastAttempt), at(f.Next)
	if l.LastSuccess != nil {
		seconds := int64(now.Sub(success).Seconds())
		l.AgeS = &seconds
	}
	return l
}

// Problem is one thing that is wrong: a leg or a condition.
type Problem struct {
	Name, Level string
	Headline    string // in plain words
	Message     string // as it was found
	Hint        string // what to run
	Quiet       bool
	Parts       []string // what it is made of, where that can grow
}

// Problems returns what is wrong, the gravest first; of the same gravity,
// conditions come before legs, for they are often the cause.
func (r Report) Problems() []Problem {
	var list []Problem
	for _, c := range r.Conditions {
		list = append(list, Problem{c.Name, c.Level, c.Headline, c.Message, c.Hint, false, c.Parts})
	}
	for _, l := range r.Legs {
		if l.Level != LevelOK {
			list = append(list, Problem{l.Name, l.Level, l.Headline, l.Message, l.Hint, l.Quiet, nil})
		}
	}
	slices.SortStableFunc(list, func(a, b Problem) int { return cmp.Compare(Number(b.Level), Number(a.Level)) })
	return list
}

// Leg returns the leg of a name.
func (r Report) Leg(name string) (Leg, bool) {
	i := slices.IndexFunc(r.Legs, func(l Leg) bool { return l.Name == name })
	if i < 0 {
		return Leg{}, false
	}
	return r.Legs[i], true
}
