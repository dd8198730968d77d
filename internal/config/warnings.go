package config

import (
	"fmt"
	"slices"
	"time"
)

// LongestGap returns the longest time between two slots of any of the
// expressions, taken together; 0 when none of them is set or can be read.
type LongestGap func(expressions ...string) time.Duration

// Warnings returns what is allowed but probably not meant, each a sentence with
// what to do. It looks at the configuration alone.
func (c *Config) Warnings(gap LongestGap) []string {
	var all []string
	warn := func(when bool, text string, args ...any) {
		if when {
			all = append(all, fmt.Sprintf(text, args...))
		}
	}
	e, s, r := c.Encryption, c.Schedule, c.Restore
	chroma := c.AtoCore.ChromaPath != ""
	warn(len(c.Offsite) == 0, "no [[offsite]] target: a lost machine takes every backup with it; add one")
	warn(len(e.Recipients) == 1 && e.RecipientsFile == "",
		"encryption.recipients has one key: if its secret is lost, so is every off-site copy; add one whose secret "+
			"lies in a drawer")
	warn(s.Daily == "" && s.Weekly == "" && s.Monthly == "",
		"schedule.daily, schedule.weekly and schedule.monthly are off: no snapshot is taken unless somebody asks")
	warn(chroma && s.Weekly == "" && s.Monthly == "" && s.Daily != "",
		"schedule.weekly and schedule.monthly are off: Chroma is saved only by atobackupd backup --chroma")
	warn(c.Retention.Daily == 0 && c.Retention.Weekly == 0 && c.Retention.Monthly == 0,
		"[retention] keeps everything: all counts are 0, and the disk will fill")
	warn((len(r.StopCommand) == 0) != (len(r.StartCommand) == 0),
		"restore.stop_command and restore.start_command belong together: restore --manage-service needs both")
	warn(!c.tells(), "nobody is told when a backup fails: set notify.urls, notify.urls_file, notify.command or "+
		"notify.heartbeats")
	warn(c.Notify.Digest != "" && !c.tellsPeople(), "notify.digest has nobody to be sent to: set notify.urls, "+
		"notify.urls_file or notify.command")
	warn(c.HTTP.Listen == "", `http.listen = "": no dashboard and no metrics`)
	warn(c.worldReadable && c.secret(),
		"%s can be read by every user and holds secrets: chmod 640 it, or move the addresses to notify.urls_file",
		c.Path)
	return slices.Concat(all, c.alarmWarnings(gap), c.targetWarnings(gap))
}

// tells reports whether anybody hears of a failure.
func (c *Config) tells() bool {
	return c.tellsPeople() || len(c.Notify.Heartbeats) > 0
}

// tellsPeople reports whether there is an address for messages.
func (c *Config) tellsPeople() bool {
	n := c.Notify
	return len(n.URLs) > 0 || n.URLsFile != "" || len(n.Command) > 0
}

// secret reports whether the configuration itself holds secrets.
func (c *Config) secret() bool { return len(c.Notify.URLs) > 0 || len(c.Notify.Heartbeats) > 0 }

// How much longer than the time between two runs a limit may be before it looks
// like a mistake. A target may sleep for weeks, so its limit is measured in days.
const (
	patience       = 10
	targetPatience = 100 * day
)

// alarmWarnings names limits that would ring between two regular runs, and those
// that would not ring when ten runs in a row are missing.
func (c *Config) alarmWarnings(gap LongestGap) []string {
	s, a := c.Schedule, c.Alarms
	snapshot, prune := a.Snapshot, a.Prune
	if s.Daily == "" { // the snapshots with Chroma are the only ones then, and prune follows them
		snapshot, prune = max(snapshot, a.Full), max(prune, a.Full)
	}
	verify := s.Verify
	if len(c.Offsite) == 0 {
		verify = ""
	}
	full := gap(s.Weekly, s.Monthly)
	if c.AtoCore.ChromaPath == "" {
		full = 0 // refused or said elsewhere
	}
	limits := []struct {
		name  string
		limit Limit
		jobs  string
		every time.Duration
	}{
		{"snapshot", snapshot, "schedule.daily, weekly and monthly", gap(s.Daily, s.Weekly, s.Monthly)},
		{"full", a.Full, "schedule.weekly and monthly", full},
		{"prune", prune, "schedule.daily, weekly and monthly", gap(s.Daily, s.Weekly, s.Monthly)},
		{"scrub", a.Scrub, "schedule.scrub", gap(s.Scrub)},
		{"drill", a.Drill, "schedule.drill", gap(s.Drill)},
		{"verify", a.Verify, "schedule.verify", gap(verify)},
	}
	var all []string
	for _, l := range limits {
		switch {
		case l.limit <= 0 || l.every == 0:
		case l.limit.Std() <= l.every:
			all = append(all, fmt.Sprintf("alarms.%s = %q is not longer than the %s between two runs of %s: it "+
				"rings without cause; make it longer",
				l.name, l.limit, roughly(l.every), l.jobs))
		case l.limit.Std() > patience*l.every && l.limit.Std() > patience*day:
			all = append(all, fmt.Sprintf("alarms.%s = %q is many times the %s between two runs of %s: nobody is "+
				"told while they fail; make it shorter",
				l.name, l.limit, roughly(l.every), l.jobs))
		}
	}
	if limit := a.Verify.Std(); verify != "" && limit > 0 && limit <= s.VerifyEvery.Std() {
		all = append(all, fmt.Sprintf("alarms.verify = %q is not longer than schedule.verify_every = %q: it rings "+
			"before a verify counts as done; make it longer",
			a.Verify, s.VerifyEvery))
	}
	return all
}

func (c *Config) targetWarnings(gap LongestGap) []string {
	var all []string
	every := gap(c.Schedule.Daily, c.Schedule.Weekly, c.Schedule.Monthly)
	for _, t := range c.Offsite {
		warn := func(text string, args ...any) {
			all = append(all, fmt.Sprintf("offsite %q: ", t.Name)+fmt.Sprintf(text, args...))
		}
		switch limit := t.MaxAge.Std(); {
		case limit == 0:
		case limit <= t.RetryEvery.Std():
			warn("max_age = %q is not longer than retry_every = %q: one unanswered try is an alarm; make it longer",
				t.MaxAge, t.RetryEvery)
		case limit <= every:
			warn("max_age = %q is not longer than the %s between two snapshots: it rings without cause; make it longer",
				t.MaxAge, roughly(every))
		case limit > targetPatience && limit > patience*every:
			warn("max_age = %q: nobody is told while nothing gets there; make it shorter", t.MaxAge)
		}
		if late := c.LockWarning(t, gap); late != "" {
			warn("%s", late)
		}
		if !t.Prune {
			warn("prune = false: run atobackupd vault prune on the other machine, or its disk fills")
		}
	}
	return all
}

// LockWarning says that a bucket is synced too seldom for its locks, each of which
// is lengthened by a sync once less than half of it is left; "" where it is not.
func (c *Config) LockWarning(t Target, gap LongestGap) string {
	every := gap(c.Schedule.Daily, c.Schedule.Weekly, c.Schedule.Monthly)
	if t.LockFor.Std() == 0 || every > 0 && every < t.LockFor.Std()/2 {
		return ""
	}
	if every == 0 {
		return fmt.Sprintf("lock_for = %q, and nothing is scheduled: locks end unless somebody syncs in time",
			t.LockFor)
	}
	return fmt.Sprintf("lock_for = %q: half of it is not longer than the %s between two syncs, so that objects may be "+
		"without a lock; make it longer", t.LockFor, roughly(every))
}

// roughly rounds a span to what is worth printing.
func roughly(d time.Duration) Duration { return Duration(d.Round(time.Minute)) }
