package app

import (
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
)

// leg is what is configured of a leg.
type leg struct {
	name    string
	limit   time.Duration
	off     string // why it is not watched; "" when it is
	job     string // whose slots count
	runs    string // the job under which its runs are recorded
	kind    string // tells drills apart: liveDrill, or another; "" for all runs of the job
	target  string // "" for one that is about no target
	holds   bool   // it is about snapshots on this disk
	follows bool   // it comes after a take
	late    string // the level of one that is overdue; "" is critical
	hint    string // what to run about it
}

// legs are those that the configuration knows, the unwatched ones too.
func legs(c *config.Config) []leg {
	var list []leg
	add := func(l leg, key string, limit time.Duration) {
		if l.limit = limit; limit <= 0 {
			l.off = key + ` = "off"`
		}
		list = append(list, l)
	}
	daily, weekly := c.Schedule.Daily != "", c.Schedule.Weekly != ""
	often, prune := c.Alarms.Snapshot.Std(), c.Alarms.Prune.Std()
	job := "daily"
	if !daily && weekly { // then the weekly take is the only one, and prune comes after it
		job = "weekly"
		if full := c.Alarms.Full.Std(); full > 0 {
			often, prune = longer(often, full), longer(prune, full)
		}
	}
	add(leg{name: health.LegSnapshot, job: job, runs: "backup", holds: true, hint: hintFor("backup")},
		"alarms.snapshot", often)
	if c.AtoCore.ChromaPath != "" {
		job := "weekly"
		if !weekly && c.Schedule.Monthly != "" {
			job = "monthly"
		}
		add(leg{name: health.LegFull, job: job, runs: "backup", holds: true, hint: hintFor("backup", "--chroma")},
			"alarms.full", c.Alarms.Full.Std())
	}
	for _, t := range c.Offsite {
		add(leg{name: health.LegOffsite(t.Name), job: SyncJob(t.Name), runs: SyncJob(t.Name), target: t.Name,
			follows: true, hint: hintFor("sync", "--target", t.Name)},
			"offsite."+t.Name+".max_age", t.MaxAge.Std())
		add(leg{name: health.LegVerify(t.Name), job: "verify", runs: VerifyJob(t.Name), hint: hintFor("vault", "verify",
			"--target", t.Name)},
			"alarms.verify", c.Alarms.Verify.Std())
	}
	add(leg{name: health.LegPrune, job: job, runs: "prune", follows: true, hint: hintFor("prune", "--dry-run")},
		"alarms.prune", prune)
	add(leg{name: health.LegScrub, job: "scrub", runs: "scrub", hint: hintFor("scrub")}, "alarms.scrub",
		c.Alarms.Scrub.Std())
	add(leg{name: health.LegDrill, job: "drill", runs: "drill", kind: "scratch", late: health.LevelWarning,
		hint: hintFor("drill")}, "alarms.drill", c.Alarms.Drill.Std())
	add(leg{name: health.LegLiveDrill, runs: "drill", kind: liveDrill, late: health.LevelWarning,
		hint: hintFor("drill", "--live")}, "alarms.live_drill", c.Alarms.LiveDrill.Std())
	return list
}

// longer returns the longer of two limits; one that is off stays off.
func longer(a, b time.Duration) time.Duration {
	if a <= 0 {
		return a
	}
	return max(a, b)
}
