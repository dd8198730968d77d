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

// Alarm says that a leg or a condition is bad, or was.
type Alarm struct {
	ID         int64     `json:"id"`
	Leg        string    `json:"leg"` // or the condition
	Since      time.Time `json:"since"`
	Level      string    `json:"level"` // warning or critical
	Message    string    `json:"message"`
	Hint       string    `json:"-"`                    // the part of the message that says what to do
	Parts      []string  `json:"-"`                    // what it is made of, where that can grow; nil after a start
	NotifiedAt time.Time `json:"notified_at,omitzero"` // when somebody was last told; zero for not yet
	ResolvedAt time.Time `json:"resolved_at,omitzero"` // zero while it is open
}

// Unwatched is the message of an alarm that ended because nobody looks any more.
const Unwatched = "no longer watched"

// settledMark begins the message of an alarm that ended although nothing was healed.
const settledMark = "settled: "

// Alarms holds the alarms as they are: those that are open, and those that are
// over and of whose end nobody was told.
type Alarms struct {
	Open []Alarm
	Over []Alarm
}

// Changes are what a look at the alarms must write down.
type Changes struct {
	Raised   []Alarm // new, or with another message or level
	Fresh    []Alarm // those of them that are new
	Resolved []Alarm
}

// Update brings the alarms up to date with a report that was made at now. An
// alarm is over when the report knows its leg or condition as well. One whose leg
// waits for a retry is not over, and one whose leg is no longer watched did not
// recover: it says so. Update changes nothing of l.
func (l Alarms) Update(r Report, now time.Time) (Alarms, Changes) {
	bad := slices.DeleteFunc(r.Problems(), func(p Problem) bool { return p.Quiet })
	next := Alarms{Over: slices.Clone(l.Over)}
	var c Changes
	for _, alarm := range l.Open {
		i := slices.IndexFunc(bad, func(p Problem) bool { return p.Name == alarm.Leg })
		if i < 0 {
			switch leg, ok := r.Leg(alarm.Leg); {
			case ok && leg.Level != LevelOK:
				next.Open = append(next.Open, alarm)
				continue
			case ok && !leg.Watched, !ok && isLeg(alarm.Leg):
				alarm.Message = Unwatched
				c.Raised = append(c.Raised, alarm)
			case !ok:
				if end := r.settlement(alarm); end != "" {
					alarm.Message = end
					c.Raised = append(c.Raised, alarm)
				}
			}
			alarm.ResolvedAt = now
			c.Resolved = append(c.Resolved, alarm)
			if !alarm.NotifiedAt.IsZero() { // who heard nothing need not hear that it is over
				next.Over = append(next.Over, alarm)
			}
			continue
		}
		p := bad[i]
		if alarm.Level == LevelWarning && p.Level == LevelCritical || grew(alarm.Parts, p.Parts) {
			alarm.NotifiedAt = time.Time{} // that is news
		}
		alarm.Parts = p.Parts
		// Without an id it could not be written down so far.
		if alarm.Level != p.Level || alarm.Message != p.told() || alarm.ID == 0 {
			alarm.Level, alarm.Message, alarm.Hint = p.Level, p.told(), p.Hint
			c.Raised = append(c.Raised, alarm)
		}
		next.Open = append(next.Open, alarm)
	}
	for _, p := range bad {
		if slices.ContainsFunc(l.Open, func(a Alarm) bool { return a.Leg == p.Name }) {
			continue
		}
		alarm := Alarm{Leg: p.Name, Since: now, Level: p.Level, Message: p.told(), Hint: p.Hint, Parts: p.Parts}
		next.Open = append(next.Open, alarm)
		c.Raised = append(c.Raised, alarm)
		c.Fresh = append(c.Fresh, alarm)
	}
	return next, c
}

// grew reports whether something came to what an alarm is made of: the second copy that
// rots may be the last good one. What it was made of before a start is not known.
func grew(before, now []string) bool {
	return len(before) > 0 && slices.ContainsFunc(now, func(part string) bool { return !slices.Contains(before, part) })
}

// settlement is the message of an alarm about damage that is over and was not healed;
// "" for one that was.
func (r Report) settlement(alarm Alarm) string {
	if alarm.Leg != ConditionDamaged {
		return ""
	}
	var how []string
	for _, s := range r.Settled {
		switch {
		case !strings.Contains(alarm.Message, s.Subject):
		case s.How == Unwatched:
			return Unwatched
		default:
			how = append(how, s.Subject+" was "+s.How)
		}
	}
	if len(how) == 0 {
		return ""
	}
	return settledMark + firstFew(how)
}

// isLeg reports whether a name is one of a leg.
func isLeg(name string) bool {
	_, target := cutTarget(name)
	return target != "" || slices.Contains([]string{LegSnapshot, LegFull, LegPrune, LegScrub, LegDrill, LegLiveDrill},
		name)
}

// told is what people are told of a problem: what was found and what to do,
// which the message of a failure often says already.
func (p Problem) told() string {
	if p.Hint == "" || strings.Contains(p.Message, p.Hint) {
		return p.Message
	}
	return p.Message + ": " + p.Hint
}

// Notice is what somebody is to be told, all in one message.
type Notice struct {
	Bad       []Alarm // nobody knows of them
	Still     []Alarm // somebody was told a day ago or more
	Recovered []Alarm
}

// Pending returns the news at now. When one alarm is due for a reminder, all others
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

// what returns the message without what there was to do: of what is over nothing is
// left. Messages of failures name it at their end already, and alarms of an older
// version have no hint of their own.
func (a Alarm) what() string {
	message := a.Message
	if a.Hint != "" {
		message = strings.ReplaceAll(message, ": "+a.Hint, "")
	}
	return withoutCommand(message)
}

// lasted returns how long it was bad, no finer than a person wants it.
func lasted(a Alarm) time.Duration {
	d := a.ResolvedAt.Sub(a.Since)
	if d < 2*time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Minute)
}

// withoutCommand cuts a message before the clause that names a command.
func withoutCommand(message string) string {
	for command := commandIn(message); command != ""; command = commandIn(message) {
		before := message[:strings.Index(message, command)]
		message = before[:max(0, strings.LastIndex(before, ": "), strings.LastIndex(before, "; "))]
	}
	return message
}

// Empty reports whether there is nothing to tell.
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
		lines = append(lines, fmt.Sprintf("STILL %s %s, since %s: %s", strings.ToUpper(a.Level), a.Leg, Clock(a.Since),
			a.Message))
	}
	for _, a := range n.Recovered {
		if a.Message == Unwatched {
			lines = append(lines, fmt.Sprintf("NO LONGER WATCHED %s: it was not well", a.Leg))
			continue
		}
		if how, ok := strings.CutPrefix(a.Message, settledMark); ok {
			lines = append(lines, fmt.Sprintf("SETTLED %s, after %s: %s", a.Leg, lasted(a), how))
			continue
		}
		lines = append(lines, fmt.Sprintf("RECOVERED %s, after %s; it was: %s", a.Leg, lasted(a), a.what()))
	}
	what := ""
	switch bad := append(slices.Clone(n.Bad), n.Still...); {
	case len(bad) == 1:
		what = bad[0].Leg + " is bad"
	case len(bad) > 1:
		what = fmt.Sprintf("%d alarms", len(bad))
	case len(n.Recovered) == 1 && n.Recovered[0].Message == Unwatched:
		what = n.Recovered[0].Leg + " is no longer watched"
	case len(n.Recovered) == 1 && strings.HasPrefix(n.Recovered[0].Message, settledMark):
		what = n.Recovered[0].Leg + " is settled"
	case len(n.Recovered) == 1:
		what = n.Recovered[0].Leg + " has recovered"
	default:
		what = fmt.Sprintf("%d alarms are over", len(n.Recovered))
	}
	lines = append(lines, "Look: atobackupd status")
	return "atobackupd on " + host + ": " + what, strings.Join(lines, "\n")
}
