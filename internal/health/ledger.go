package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// remindEvery is how long an open alarm is left alone before somebody is told
// again.
const remindEvery = 24 * time.Hour

// Finding is what is wrong with a leg, or with something else that has a name.
type Finding struct{ Name, Level, Message string }

// Alarms holds the alarms as they are: those that are open, and those that are
// over and of whose end nobody was told.
type Alarms struct {
	Open []Alarm
	Over []Alarm
}

// Changes are what a turn of the ledger must write down.
type Changes struct {
	Raised   []Alarm // new, or with another message or level
	Fresh    []Alarm // those of them that are new
	Resolved []Alarm
}

// Update brings the ledger up to date with what is bad at now. An alarm whose
// name is in no verdict is over. It changes nothing of l.
func (l Alarms) Update(bad []Finding, now time.Time) (Alarms, Changes) {
	next := Alarms{Over: slices.Clone(l.Over)}
	var c Changes
	for _, alarm := range l.Open {
		i := slices.IndexFunc(bad, func(v Finding) bool { return v.Name == alarm.Leg })
		if i < 0 {
			alarm.ResolvedAt = now
			c.Resolved = append(c.Resolved, alarm)
			if !alarm.NotifiedAt.IsZero() { // who heard nothing need not hear that it is over
				next.Over = append(next.Over, alarm)
			}
			continue
		}
		v := bad[i]
		if alarm.Level == LevelWarning && v.Level == LevelCritical {
			alarm.NotifiedAt = time.Time{} // that is news
		}
		// Without an id it could not be written down so far.
		if alarm.Level != v.Level || alarm.Message != v.Message || alarm.ID == 0 {
			alarm.Level, alarm.Message = v.Level, v.Message
			c.Raised = append(c.Raised, alarm)
		}
		next.Open = append(next.Open, alarm)
	}
	for _, v := range bad {
		if slices.ContainsFunc(l.Open, func(a Alarm) bool { return a.Leg == v.Name }) {
			continue
		}
		alarm := Alarm{Leg: v.Name, Since: now, Level: v.Level, Message: v.Message}
		next.Open = append(next.Open, alarm)
		c.Raised = append(c.Raised, alarm)
		c.Fresh = append(c.Fresh, alarm)
	}
	return next, c
}

// Notice is what somebody is to be told, all in one message.
type Notice struct {
	Bad       []Alarm // nobody knows of them
	Still     []Alarm // somebody was told a day ago or more
	Recovered []Alarm
}

// Pending gives the news at now. When one alarm is due for a reminder, all others
// are mentioned with it: a day has one reminder, however many are open.
func (l Alarms) Pending(now time.Time) (n Notice) {
	remind := false
	for _, a := range l.Open {
		if a.NotifiedAt.IsZero() {
			n.Bad = append(n.Bad, a)
			continue
		}
		// A clock that was put back must not silence it.
		if told := now.Sub(a.NotifiedAt); told >= remindEvery || told <= -remindEvery {
			remind = true
		}
		n.Still = append(n.Still, a)
	}
	if !remind {
		n.Still = nil
	}
	n.Recovered = slices.Clone(l.Over)
	return n
}

func (n Notice) Empty() bool { return len(n.Bad)+len(n.Still)+len(n.Recovered) == 0 }

// MarkSent notes that somebody knows the news.
func (l Alarms) MarkSent(n Notice, at time.Time) Alarms {
	next := Alarms{Open: slices.Clone(l.Open)}
	for i := range next.Open {
		same := func(a Alarm) bool { return a.Leg == next.Open[i].Leg }
		if slices.ContainsFunc(n.Bad, same) || slices.ContainsFunc(n.Still, same) {
			next.Open[i].NotifiedAt = at
		}
	}
	for _, a := range l.Over {
		if !slices.ContainsFunc(n.Recovered, func(b Alarm) bool { return a.Leg == b.Leg && a.Since.Equal(b.Since) }) {
			next.Over = append(next.Over, a)
		}
	}
	return next
}

// Message writes the news for people.
func (n Notice) Message(host string) (title, body string) {
	var lines []string
	for _, a := range n.Bad {
		lines = append(lines, fmt.Sprintf("%s %s: %s", strings.ToUpper(a.Level), a.Leg, a.Message))
	}
	for _, a := range n.Still {
		lines = append(lines, fmt.Sprintf("STILL %s %s, since %s: %s", strings.ToUpper(a.Level), a.Leg, Clock(a.Since), a.Message))
	}
	for _, a := range n.Recovered {
		lines = append(lines, fmt.Sprintf("RECOVERED %s, after %s: %s", a.Leg, a.ResolvedAt.Sub(a.Since).Round(time.Minute), a.Message))
	}
	what := ""
	switch bad := append(slices.Clone(n.Bad), n.Still...); {
	case len(bad) == 1:
		what = bad[0].Leg + " is bad"
	case len(bad) > 1:
		what = fmt.Sprintf("%d alarms", len(bad))
	case len(n.Recovered) == 1:
		what = n.Recovered[0].Leg + " has recovered"
	default:
		what = fmt.Sprintf("%d alarms are over", len(n.Recovered))
	}
	lines = append(lines, "Look: atobackupd status")
	return "atobackupd on " + host + ": " + what, strings.Join(lines, "\n")
}
