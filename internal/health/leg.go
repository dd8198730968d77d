package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// ClockSlack is how far in the future a success may lie before the clock is
	// suspected: an age counted from it would hide everything until then.
	ClockSlack = time.Hour
	// retryGrace is how long after its time a retry may be waiting in the queue
	// before the failure counts as final.
	retryGrace = 10 * time.Minute
	// followGrace is how long after a take what comes after it is given.
	followGrace = time.Hour
	// retryFarthest is how far ahead a retry may be: a promise beyond that was made
	// by a clock that was ahead.
	retryFarthest = 12 * time.Hour
)

// verdict is how a leg or a condition stands. A quiet one is no alarm: the
// schedule itself is about to mend it, or nobody has asked for anything yet.
type verdict struct {
	level, headline, message, hint string
	quiet                          bool
}

// judge decides how a leg stands at now, by these rules, the gravest first.
// Messages hold no ages, so that they change only when something happens.
func (f LegFacts) judge(takes Takes, takesBad bool, now time.Time) verdict {
	if f.Err != nil {
		return verdict{level: LevelCritical, headline: f.words().unknown, message: f.Err.Error(), hint: f.Hint}
	}
	failed := Conclusive(f.Last)
	retried := failed && f.retryComes(now)
	if failed && !retried {
		return f.failure()
	}
	if f.Holds && f.Newest.IsZero() && f.Ahead != "" {
		return verdict{level: LevelCritical, headline: f.words().ahead, message: "snapshot " + f.Ahead +
			" is whole, and dated in the future: none that counts is here",
			hint: "look at the clock: `timedatectl`; if it is right now: atobackupd backup"}
	}
	if f.isGone() {
		return verdict{level: LevelCritical, headline: f.words().gone, message: "there is no valid snapshot any more",
			hint: f.Hint}
	}
	// "off" silences lateness, and no evidence.
	if f.Off == "" {
		if v := f.age(takes, takesBad, now); v.level != LevelOK {
			return v
		}
	}
	switch {
	case retried && f.Running:
		return f.quietly("it failed and is being tried again: " + f.Last.Error)
	case retried:
		return f.quietly(fmt.Sprintf("it failed and is tried again at %s: %s", Clock(f.RetryAt), f.Last.Error))
	case f.Off != "":
		return verdict{level: LevelOK, message: "not watched: " + f.Off}
	case f.LastError != "":
		return verdict{level: LevelOK, message: "its last try came to nothing: " + f.LastError}
	case f.LastSuccess.IsZero() && f.Newest.IsZero():
		return verdict{level: LevelOK, message: "nothing yet: its first time has not come"}
	case strings.HasPrefix(f.Name, offsitePrefix) && f.Newest.IsZero():
		return verdict{level: LevelOK, message: "no snapshot is known to lie there yet"}
	}
	return verdict{level: LevelOK}
}

// isGone reports whether snapshots were taken and none that counts is there.
func (f LegFacts) isGone() bool { return f.Holds && f.Newest.IsZero() && !f.LastSuccess.IsZero() }

// VaultAway reports whether the newest of the runs that looked at a vault, a sync and a
// verify, did not find it: what it held when it was last seen is no copy any more.
func VaultAway(looks ...Run) bool {
	newest := slices.MaxFunc(looks, func(a, b Run) int { return cmp.Compare(a.ID, b.ID) })
	why := DetailOf(newest).Failure
	return Conclusive(newest) && (why == "vault_mismatch" || why == "not_found")
}

// vaultAway is VaultAway of a target, by the facts of its legs.
func (f Facts) vaultAway(leg string) bool {
	_, target := cutTarget(leg)
	var looks []Run
	for _, l := range f.Legs {
		if _, of := cutTarget(l.Name); target != "" && of == target {
			looks = append(looks, l.Last)
		}
	}
	return len(looks) > 0 && VaultAway(looks...)
}

// failure is the verdict on a leg whose newest decisive run failed. The cause
// picks the words: the failure's own hint says what to run.
func (f LegFacts) failure() verdict {
	v := verdict{level: LevelCritical, headline: f.words().failed, message: f.Last.Error, hint: DetailOf(f.Last).Hint}
	if v.hint == "" {
		v.hint = f.Hint
	}
	return v
}

func (f LegFacts) quietly(message string) verdict {
	return verdict{level: LevelWarning, headline: f.words().failed, message: message, hint: f.Hint, quiet: true}
}

// retryComes reports whether a failed run is started again by itself, or has
// been. A daemon that died in between does not, so the promise runs out.
func (f LegFacts) retryComes(now time.Time) bool {
	wait := f.RetryAt.Sub(now)
	return !f.RetryAt.IsZero() && wait <= retryFarthest && (f.Running || wait > -retryGrace)
}

// age judges by how old the newest success is, counted from when the leg was
// first watched where there was none.
func (f LegFacts) age(takes Takes, takesBad bool, now time.Time) verdict {
	at, what := f.reference()
	switch {
	case at.IsZero() && f.Unremembered:
		v := f.quietly("it is not known whether it ever ran: the history cannot be read")
		v.headline = f.words().unknown
		return v
	case at.IsZero() && f.Watched.IsZero():
		v := f.quietly("it never ran, and neither did the daemon: systemctl enable --now atobackupd")
		v.headline = f.words().never
		return v
	case at.IsZero() && now.Sub(f.Watched) > f.Limit:
		return f.overdue("no success since "+Clock(f.Watched)+", for more than "+limitText(f.Limit), f.Watched, takes,
			takesBad, now)
	case at.IsZero() && (f.Holds || f.LastError != "" || !f.Due.IsZero() && now.After(f.Due)):
		v := f.quietly("it has not run yet")
		if f.LastError != "" {
			v.message = "it has not gone well yet: " + f.LastError
		}
		v.headline = f.words().never
		return v
	case at.Sub(now) > ClockSlack:
		return verdict{level: LevelWarning, headline: f.words().clock, message: what + " " + Clock(at) +
			", which has not come yet: check the clock",
			hint: "timedatectl"}
	case !at.IsZero() && now.Sub(at) > f.Limit:
		return f.overdue(what+" "+Clock(at)+", more than "+limitText(f.Limit)+" ago", at, takes, takesBad, now)
	}
	return verdict{level: LevelOK}
}

// overdue is the verdict on a leg whose limit has passed since at. One that
// waits for a snapshot raises no alarm of its own (one cause, one message), but
// only when it was well before: what was late when the take began is late.
func (f LegFacts) overdue(message string, at time.Time, takes Takes, takesBad bool, now time.Time) verdict {
	if f.Follows && (takesBad || now.Sub(takes.Newest) < followGrace) && f.wasWell(at, takes) {
		v := f.quietly(message + ": it waits for a snapshot")
		v.headline = f.words().late(at)
		return v
	}
	if f.LastError != "" {
		message += ": " + f.LastError
	}
	return verdict{level: f.Late, headline: f.words().late(at), message: message, hint: f.Hint}
}

// wasWell reports whether the leg, last well at a time, was not overdue when the
// newest snapshot was taken, or was so for the lack of snapshots before it.
func (f LegFacts) wasWell(at time.Time, takes Takes) bool {
	if takes.Newest.IsZero() || at.Add(f.Limit).After(takes.Newest) {
		return true
	}
	return takes.Limit > 0 && !takes.Before.IsZero() && takes.Newest.Sub(takes.Before) > takes.Limit
}

// Clock writes a time for people, to the minute.
func Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// limitText writes a limit for people, in the largest unit that divides it.
func limitText(d time.Duration) string {
	const day = 24 * time.Hour
	unit, name := time.Second, "second"
	switch {
	case d%time.Second != 0:
		return d.String()
	case d >= 2*day && d%day == 0:
		unit, name = day, "day"
	case d%time.Hour == 0:
		unit, name = time.Hour, "hour"
	case d%time.Minute == 0:
		unit, name = time.Minute, "minute"
	}
	if d == unit {
		return "1 " + name
	}
	return fmt.Sprintf("%d %ss", d/unit, name)
}
