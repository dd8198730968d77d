package config

import (
	"fmt"
	"strings"
	"time"
)

// Warnings gives what is allowed but probably not meant, each a sentence with
// what to do. It looks at the configuration alone.
func (c *Config) Warnings() []string {
	var all []string
	warn := func(when bool, text string, args ...any) {
		if when {
			all = append(all, fmt.Sprintf(text, args...))
		}
	}
	e, s, r := c.Encryption, c.Schedule, c.Restore
	warn(len(c.Offsite) == 0, "no [[offsite]] target: a lost machine takes every backup with it; add one")
	warn(len(e.Recipients) == 1 && e.RecipientsFile == "",
		"encryption.recipients has one key: if its secret is lost, so is every off-site copy; add one whose secret lies in a drawer")
	warn(s.Daily == "" && s.Weekly == "", "schedule.daily and schedule.weekly are off: no snapshot is taken unless somebody asks")
	warn(c.AtoCore.ChromaPath != "" && s.Weekly == "" && s.Daily != "",
		"schedule.weekly is off: Chroma is saved only by atobackupd backup --chroma")
	warn(c.Retention.Daily == 0 && c.Retention.Weekly == 0 && c.Retention.Monthly == 0,
		"[retention] keeps everything: all counts are 0, and the disk will fill")
	warn((len(r.StopCommand) == 0) != (len(r.StartCommand) == 0),
		"restore.stop_command and restore.start_command belong together: restore --manage-service needs both")
	warn(len(c.Notify.URLs) == 0 && c.Notify.URLsFile == "" && len(c.Notify.Heartbeats) == 0,
		"nobody is told when a backup fails: set notify.urls, notify.urls_file or notify.heartbeats")
	warn(c.HTTP.Listen == "", `http.listen = "": no dashboard and no metrics`)
	warn(c.worldReadable && c.secret(),
		"%s can be read by every user and holds secrets: chmod 640 it, or move the addresses to notify.urls_file", c.Path)
	return append(append(all, c.alarmWarnings()...), c.targetWarnings()...)
}

// secret tells whether the configuration itself holds secrets.
func (c *Config) secret() bool { return len(c.Notify.URLs) > 0 || len(c.Notify.Heartbeats) > 0 }

// alarmWarnings names alarms that would ring between two regular runs.
func (c *Config) alarmWarnings() []string {
	var all []string
	full := c.Alarms.Full
	if c.Schedule.Weekly == "" {
		full = 0
	}
	alarms := []struct {
		name, job, expression string
		age                   Duration
	}{
		{"snapshot", "daily", c.Schedule.Daily, c.Alarms.Snapshot},
		{"full", "weekly", c.Schedule.Weekly, full},
		{"prune", "daily", c.Schedule.Daily, c.Alarms.Prune},
		{"scrub", "scrub", c.Schedule.Scrub, c.Alarms.Scrub},
		{"drill", "drill", c.Schedule.Drill, c.Alarms.Drill},
	}
	for _, a := range alarms {
		if every := period(a.expression); a.age > 0 && time.Duration(a.age) <= every {
			all = append(all, fmt.Sprintf("alarms.%s = %q is not longer than the %s between two runs of schedule.%s: it rings without cause; make it longer",
				a.name, a.age, Duration(every), a.job))
		}
	}
	return all
}

// period gives the time between two runs of the plainest expressions, a fixed
// time of every day or of one day a week; 0 for all others.
func period(expression string) time.Duration {
	switch expression {
	case "@daily", "@midnight":
		return day
	case "@weekly":
		return 7 * day
	}
	fields := strings.Fields(expression)
	if len(fields) != 5 || strings.ContainsAny(fields[0]+fields[1], "*/,-") || fields[2] != "*" || fields[3] != "*" {
		return 0
	}
	switch weekday := fields[4]; {
	case weekday == "*":
		return day
	case strings.ContainsAny(weekday, "*/,-"):
		return 0
	}
	return 7 * day
}

func (c *Config) targetWarnings() []string {
	var all []string
	for _, t := range c.Offsite {
		if t.MaxAge > 0 && t.MaxAge <= t.RetryEvery {
			all = append(all, fmt.Sprintf("offsite %q: max_age = %q is not longer than retry_every = %q: one unanswered try is an alarm; make it longer",
				t.Name, t.MaxAge, t.RetryEvery))
		}
		if !t.Prune {
			all = append(all, fmt.Sprintf("offsite %q: prune = false: run atobackupd vault prune on the other machine, or its disk fills", t.Name))
		}
	}
	return all
}
