package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/history"
)

// remindEvery is how long an open alarm is left alone before somebody is told
// again.
const remindEvery = 24 * time.Hour

// verdict is what is wrong with a leg, or with something else that has a name.
type verdict struct{ name, level, message string }

// ledger holds the alarms as they are: those that are open, and those that are
// over and of whose end nobody was told.
type ledger struct {
	open []history.Alarm
	over []history.Alarm
}

// changes are what a turn of the ledger must write down.
type changes struct {
	raised   []history.Alarm // new, or with another message or level
	fresh    []history.Alarm // those of them that are new
	resolved []history.Alarm
}

// turn brings the ledger up to date with what is bad at now. An alarm whose
// name is in no verdict is over. It changes nothing of l.
func (l ledger) turn(bad []verdict, now time.Time) (ledger, changes) {
	next := ledger{over: slices.Clone(l.over)}
	var c changes
	for _, alarm := range l.open {
		i := slices.IndexFunc(bad, func(v verdict) bool { return v.name == alarm.Leg })
		if i < 0 {
			alarm.ResolvedAt = now
			c.resolved = append(c.resolved, alarm)
			if !alarm.NotifiedAt.IsZero() { // who heard nothing need not hear that it is over
				next.over = append(next.over, alarm)
			}
			continue
		}
		v := bad[i]
		if alarm.Level == LevelWarning && v.level == LevelCritical {
			alarm.NotifiedAt = time.Time{} // that is news
		}
		// Without an id it could not be written down so far.
		if alarm.Level != v.level || alarm.Message != v.message || alarm.ID == 0 {
			alarm.Level, alarm.Message = v.level, v.message
			c.raised = append(c.raised, alarm)
		}
		next.open = append(next.open, alarm)
	}
	for _, v := range bad {
		if slices.ContainsFunc(l.open, func(a history.Alarm) bool { return a.Leg == v.name }) {
			continue
		}
		alarm := history.Alarm{Leg: v.name, Since: now, Level: v.level, Message: v.message}
		next.open = append(next.open, alarm)
		c.raised = append(c.raised, alarm)
		c.fresh = append(c.fresh, alarm)
	}
	return next, c
}

// news is what somebody is to be told, all in one message.
type news struct {
	bad       []history.Alarm // nobody knows of them
	still     []history.Alarm // somebody was told a day ago or more
	recovered []history.Alarm
}

// due gives the news at now. When one alarm is due for a reminder, all others
// are mentioned with it: a day has one reminder, however many are open.
func (l ledger) due(now time.Time) (n news) {
	remind := false
	for _, a := range l.open {
		if a.NotifiedAt.IsZero() {
			n.bad = append(n.bad, a)
			continue
		}
		// A clock that was put back must not silence it.
		if told := now.Sub(a.NotifiedAt); told >= remindEvery || told <= -remindEvery {
			remind = true
		}
		n.still = append(n.still, a)
	}
	if !remind {
		n.still = nil
	}
	n.recovered = slices.Clone(l.over)
	return n
}

func (n news) empty() bool { return len(n.bad)+len(n.still)+len(n.recovered) == 0 }

// told notes that somebody knows the news.
func (l ledger) told(n news, at time.Time) ledger {
	next := ledger{open: slices.Clone(l.open)}
	for i := range next.open {
		same := func(a history.Alarm) bool { return a.Leg == next.open[i].Leg }
		if slices.ContainsFunc(n.bad, same) || slices.ContainsFunc(n.still, same) {
			next.open[i].NotifiedAt = at
		}
	}
	for _, a := range l.over {
		if !slices.ContainsFunc(n.recovered, func(b history.Alarm) bool { return a.Leg == b.Leg && a.Since.Equal(b.Since) }) {
			next.over = append(next.over, a)
		}
	}
	return next
}

// message writes the news for people.
func (n news) message(host string) (title, body string) {
	var lines []string
	for _, a := range n.bad {
		lines = append(lines, fmt.Sprintf("%s %s: %s", strings.ToUpper(a.Level), a.Leg, a.Message))
	}
	for _, a := range n.still {
		lines = append(lines, fmt.Sprintf("STILL %s %s, since %s: %s", strings.ToUpper(a.Level), a.Leg, clock(a.Since), a.Message))
	}
	for _, a := range n.recovered {
		lines = append(lines, fmt.Sprintf("RECOVERED %s, after %s: %s", a.Leg, a.ResolvedAt.Sub(a.Since).Round(time.Minute), a.Message))
	}
	what := ""
	switch bad := append(slices.Clone(n.bad), n.still...); {
	case len(bad) == 1:
		what = bad[0].Leg + " is bad"
	case len(bad) > 1:
		what = fmt.Sprintf("%d alarms", len(bad))
	case len(n.recovered) == 1:
		what = n.recovered[0].Leg + " has recovered"
	default:
		what = fmt.Sprintf("%d alarms are over", len(n.recovered))
	}
	lines = append(lines, "Look: atobackupd status")
	return "atobackupd on " + host + ": " + what, strings.Join(lines, "\n")
}
