package daemon

import (
	"fmt"
	"time"

	"github.com/atocore/atobackupd/internal/history"
)

const (
	// clockSlack is how far in the future a success may lie before the clock is
	// suspected: an age counted from it would hide everything until then.
	clockSlack = time.Hour
	// retryGrace is how long after its time a retry may be waiting in the queue
	// before the failure counts as final.
	retryGrace = 10 * time.Minute
	// followGrace is how long after a take what comes after it is given, before
	// it is blamed for what it could not do while there were no takes.
	followGrace = time.Hour
)

// leg is what is configured of a leg.
type leg struct {
	name  string
	limit time.Duration // how old its last success may be
	job   string        // whose next slot is shown
	runs  string        // the job under which its runs are recorded
	// holds says that the leg is about snapshots on this disk: without one it is
	// bad, whatever the history remembers.
	holds bool
	// stale is the level of an overdue leg.
	stale string
}

// facts are all that the judgement of a leg depends on, besides the time.
type facts struct {
	leg
	since   time.Time      // when its job was first known to the schedule; zero: no daemon ever ran
	seen    history.Leg    // how it last went
	newest  time.Time      // of the snapshot that counts for it; zero: none
	last    history.Run    // its newest run that ended; zero: none
	running bool           // a run of it is under way
	open    *history.Alarm // its open alarm
	blocked bool           // it comes after a take, and that is bad or has just been
	err     error          // the facts could not be found out
}

// judgement is how a leg stands. A quiet one is no alarm: the schedule itself
// is about to mend it, or nobody has asked for anything yet.
type judgement struct {
	level, message string
	quiet          bool
}

// judge decides how a leg stands at now, by these rules, the gravest first.
// Messages hold no ages, so that they change only when something happens.
func judge(f facts, now time.Time) judgement {
	if f.err != nil {
		return judgement{level: LevelCritical, message: f.err.Error()}
	}
	failed := conclusive(f.last) && !f.seen.LastSuccess.After(f.last.FinishedAt)
	retried := failed && f.retryComes(now)
	if failed && !retried {
		return judgement{level: LevelCritical, message: f.last.Error}
	}
	if j := f.age(now); j.level != LevelOK {
		return j
	}
	if f.lingers() {
		return judgement{level: f.open.Level, message: f.open.Message}
	}
	switch {
	case retried && f.running:
		return judgement{LevelWarning, "it failed and is being tried again: " + f.last.Error, true}
	case retried:
		return judgement{LevelWarning, fmt.Sprintf("it failed and is tried again at %s: %s", clock(detailOf(f.last).RetryAt), f.last.Error), true}
	case f.seen.LastError != "":
		return judgement{level: LevelOK, message: f.seen.LastError}
	case f.seen.LastSuccess.IsZero() && f.newest.IsZero():
		return judgement{level: LevelOK, message: "nothing yet: its first time has not come"}
	}
	return judgement{level: LevelOK}
}

// lingers tells whether an open alarm stays although its cause does not show in
// the newest run. What was bad at once, say a refused key, is not good again
// because the target was away the next time: only a success ends it.
func (f facts) lingers() bool {
	tried := f.last.Outcome != "" && f.last.Outcome != history.OK
	return f.open != nil && tried && !f.seen.LastSuccess.After(f.open.Since) && !f.newest.After(f.open.Since)
}

// retryComes tells whether a failed run is started again by itself, or has
// been. A daemon that died in between does not, so the promise runs out.
func (f facts) retryComes(now time.Time) bool {
	at := detailOf(f.last).RetryAt
	return !at.IsZero() && (f.running || now.Before(at.Add(retryGrace)))
}

// age judges by how old the newest success is, counted from when the schedule
// first knew of the leg where there was none.
func (f facts) age(now time.Time) judgement {
	reference, what := f.seen.LastSuccess, "its last success was"
	if !f.newest.IsZero() {
		reference, what = f.newest, "its newest snapshot is of"
	}
	switch {
	case f.holds && f.newest.IsZero() && !f.seen.LastSuccess.IsZero():
		return judgement{level: LevelCritical, message: "there is no valid snapshot any more"}
	case reference.IsZero() && f.since.IsZero():
		return judgement{LevelWarning, "it never ran, and neither did the daemon: systemctl enable --now atobackupd", true}
	case reference.IsZero() && now.Sub(f.since) > f.limit:
		return f.overdue("no success since " + clock(f.since) + ", for more than " + limitText(f.limit))
	case reference.Sub(now) > clockSlack:
		return judgement{level: LevelWarning, message: what + " " + clock(reference) + ", which has not come yet: check the clock"}
	case !reference.IsZero() && now.Sub(reference) > f.limit:
		return f.overdue(what + " " + clock(reference) + ", more than " + limitText(f.limit) + " ago")
	}
	return judgement{level: LevelOK}
}

// overdue is the judgement of a leg whose limit has passed. One that waits for
// a snapshot raises no alarm of its own: one cause, one message.
func (f facts) overdue(message string) judgement {
	if f.blocked && f.open == nil {
		return judgement{LevelWarning, message + ": it waits for a snapshot", true}
	}
	if f.seen.LastError != "" {
		message += ": " + f.seen.LastError
	}
	return judgement{level: f.stale, message: message}
}

// clock writes a time for people, to the minute.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

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

func worse(a, b string) string {
	rank := map[string]int{LevelOK: 0, LevelWarning: 1, LevelCritical: 2, LevelUnknown: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
