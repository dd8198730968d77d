// Package health judges how things stand: facts go in, levels and messages come
// out. It is pure and does no I/O.
package health

import (
	"fmt"
	"time"
)

const (
	// ClockSlack is how far in the future a success may lie before the clock is
	// suspected: an age counted from it would hide everything until then.
	ClockSlack = time.Hour
	// retryGrace is how long after its time a retry may be waiting in the queue
	// before the failure counts as final.
	retryGrace = 10 * time.Minute
	// FollowGrace is how long after a take what comes after it is given, before
	// it is blamed for what it could not do while there were no takes.
	FollowGrace = time.Hour
)

// WatchedLeg is what is configured of a leg.
type WatchedLeg struct {
	Name  string
	Limit time.Duration // how old its last success may be
	Job   string        // whose next slot is shown
	Runs  string        // the job under which its runs are recorded
	// Holds says that the leg is about snapshots on this disk: without one it is
	// bad, whatever the history remembers.
	Holds bool
	// Stale is the level of an overdue leg.
	Stale string
}

// LegInputs are all that the judgement of a leg depends on, besides the time.
type LegInputs struct {
	WatchedLeg
	Since   time.Time // when its job was first known to the schedule; zero: no daemon ever ran
	Seen    Leg       // how it last went
	Newest  time.Time // of the snapshot that counts for it; zero: none
	Last    Run       // its newest run that ended; zero: none
	Running bool      // a run of it is under way
	Open    *Alarm    // its open alarm
	Blocked bool      // it comes after a take, and that is bad or has just been
	Err     error     // the facts could not be found out
}

// LegHealth is how a leg stands. A quiet one is no alarm: the schedule itself
// is about to mend it, or nobody has asked for anything yet.
type LegHealth struct {
	Level, Message string
	Quiet          bool
}

// Judge decides how a leg stands at now, by these rules, the gravest first.
// Messages hold no ages, so that they change only when something happens.
func Judge(f LegInputs, now time.Time) LegHealth {
	if f.Err != nil {
		return LegHealth{Level: LevelCritical, Message: f.Err.Error()}
	}
	failed := Conclusive(f.Last) && !f.Seen.LastSuccess.After(f.Last.FinishedAt)
	retried := failed && f.retryComes(now)
	if failed && !retried {
		return LegHealth{Level: LevelCritical, Message: f.Last.Error}
	}
	if j := f.age(now); j.Level != LevelOK {
		return j
	}
	if f.lingers() {
		return LegHealth{Level: f.Open.Level, Message: f.Open.Message}
	}
	switch {
	case retried && f.Running:
		return LegHealth{LevelWarning, "it failed and is being tried again: " + f.Last.Error, true}
	case retried:
		return LegHealth{LevelWarning, fmt.Sprintf("it failed and is tried again at %s: %s", Clock(DetailOf(f.Last).RetryAt), f.Last.Error), true}
	case f.Seen.LastError != "":
		return LegHealth{Level: LevelOK, Message: f.Seen.LastError}
	case f.Seen.LastSuccess.IsZero() && f.Newest.IsZero():
		return LegHealth{Level: LevelOK, Message: "nothing yet: its first time has not come"}
	}
	return LegHealth{Level: LevelOK}
}

// lingers tells whether an open alarm stays although its cause does not show in
// the newest run. What was bad at once, say a refused key, is not good again
// because the target was away the next time: only a success ends it.
func (f LegInputs) lingers() bool {
	tried := f.Last.Outcome != "" && f.Last.Outcome != OK
	return f.Open != nil && tried && !f.Seen.LastSuccess.After(f.Open.Since) && !f.Newest.After(f.Open.Since)
}

// retryComes tells whether a failed run is started again by itself, or has
// been. A daemon that died in between does not, so the promise runs out.
func (f LegInputs) retryComes(now time.Time) bool {
	at := DetailOf(f.Last).RetryAt
	return !at.IsZero() && (f.Running || now.Before(at.Add(retryGrace)))
}

// age judges by how old the newest success is, counted from when the schedule
// first knew of the leg where there was none.
func (f LegInputs) age(now time.Time) LegHealth {
	reference, what := f.Seen.LastSuccess, "its last success was"
	if !f.Newest.IsZero() {
		reference, what = f.Newest, "its newest snapshot is of"
	}
	switch {
	case f.Holds && f.Newest.IsZero() && !f.Seen.LastSuccess.IsZero():
		return LegHealth{Level: LevelCritical, Message: "there is no valid snapshot any more"}
	case reference.IsZero() && f.Since.IsZero():
		return LegHealth{LevelWarning, "it never ran, and neither did the daemon: systemctl enable --now atobackupd", true}
	case reference.IsZero() && now.Sub(f.Since) > f.Limit:
		return f.overdue("no success since " + Clock(f.Since) + ", for more than " + limitText(f.Limit))
	case reference.Sub(now) > ClockSlack:
		return LegHealth{Level: LevelWarning, Message: what + " " + Clock(reference) + ", which has not come yet: check the clock"}
	case !reference.IsZero() && now.Sub(reference) > f.Limit:
		return f.overdue(what + " " + Clock(reference) + ", more than " + limitText(f.Limit) + " ago")
	}
	return LegHealth{Level: LevelOK}
}

// overdue is the judgement of a leg whose limit has passed. One that waits for
// a snapshot raises no alarm of its own: one cause, one message.
func (f LegInputs) overdue(message string) LegHealth {
	if f.Blocked && f.Open == nil {
		return LegHealth{LevelWarning, message + ": it waits for a snapshot", true}
	}
	if f.Seen.LastError != "" {
		message += ": " + f.Seen.LastError
	}
	return LegHealth{Level: f.Stale, Message: message}
}

// Clock writes a time for people, to the minute.
func Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// limitText writes a limit as the configuration does.
func limitText(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	if d%time.Hour == 0 {
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return d.String()
}

func Worse(a, b string) string {
	rank := map[string]int{LevelOK: 0, LevelWarning: 1, LevelCritical: 2, LevelUnknown: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
