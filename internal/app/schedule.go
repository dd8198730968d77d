package app

import (
	"context"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/scheduler"
)

// ScheduleEntry is one job in the document of `schedule`.
type ScheduleEntry struct {
	Job         string      `json:"job"`
	Expr        string      `json:"expr"`
	Next        []time.Time `json:"next"`                  // the next three slots
	Last        time.Time   `json:"last_started,omitzero"` // zero: it never ran
	LastOutcome string      `json:"last_outcome"`
	LastError   string      `json:"last_error"`
}

// Schedule is the document of `schedule`.
type Schedule struct {
	Timezone string          `json:"timezone"`
	Jobs     []ScheduleEntry `json:"jobs"`
	// FollowUps run after each take: the sync of each target, and the prune.
	FollowUps []ScheduleEntry `json:"follow_ups"`
}

// Schedule tells when each job runs next and how it went last.
func (a *App) Schedule(ctx context.Context, now time.Time) (Schedule, error) {
	doc := Schedule{Timezone: a.Config.Schedule.Timezone, Jobs: []ScheduleEntry{}, FollowUps: []ScheduleEntry{}}
	list, err := Crons(a.Config)
	if err != nil {
		return doc, err
	}
	digest, err := DigestCron(a.Config)
	if err != nil {
		return doc, err
	}
	if digest != nil {
		list = append(list, Scheduled{DigestJob, digest})
	}
	for _, s := range list {
		served, _, err := a.history.Served(ctx, s.Name)
		a.NoteHistoryError(err)
		entry := ScheduleEntry{Job: s.Name, Expr: s.Cron.String(), Next: s.Cron.Upcoming(served, now, 3)}
		entry.Last, entry.LastOutcome, entry.LastError = a.howItWent(ctx, s.Name)
		doc.Jobs = append(doc.Jobs, entry)
	}
	a.followUps(ctx, &doc, now)
	return doc, nil
}

// howItWent returns when a job ran last, and how that ended.
func (a *App) howItWent(ctx context.Context, job string) (at time.Time, outcome, message string) {
	if run, ok := a.lastRun(ctx, job); ok {
		return run.StartedAt, string(run.Outcome), run.Error
	}
	return time.Time{}, "", ""
}

// followUps adds what runs after the next take, and sooner where a target was not
// reached.
func (a *App) followUps(ctx context.Context, doc *Schedule, now time.Time) {
	var takes []time.Time
	for _, job := range doc.Jobs {
		if isTake(job.Job) && len(job.Next) > 0 {
			takes = append(takes, job.Next[0])
		}
	}
	if len(takes) > 0 {
		takes = []time.Time{slices.MinFunc(takes, time.Time.Compare)}
	}
	add := func(job, expr string, retry time.Duration) {
		entry := ScheduleEntry{Job: job, Expr: expr, Next: takes}
		entry.Last, entry.LastOutcome, entry.LastError = a.howItWent(ctx, job)
		if retry > 0 && entry.LastOutcome == string(history.Skipped) {
			again := entry.Last.Add(retry)
			if again.Before(now) {
				again = now
			}
			entry.Next = []time.Time{again}
		}
		doc.FollowUps = append(doc.FollowUps, entry)
	}
	for _, t := range a.Config.Offsite {
		add(SyncJob(t.Name), "after each take, away: every "+t.RetryEvery.String(), t.RetryEvery.Std())
	}
	add("prune", "after each take", 0)
}

// isTake reports whether a job of the schedule takes a snapshot.
func isTake(job string) bool { return job == "daily" || job == "weekly" || job == "monthly" }

// lastRun finds the newest run of a scheduled job. Takes are recorded as one
// job, told apart by the kind of their snapshot.
func (a *App) lastRun(ctx context.Context, job string) (history.Run, bool) {
	if !isTake(job) {
		run, ok, err := a.history.LastRun(ctx, job)
		a.NoteHistoryError(err)
		return run, ok && err == nil
	}
	runs, err := a.history.Runs(ctx, "backup", time.Time{}, 100)
	a.NoteHistoryError(err)
	for _, run := range runs {
		if run.Kind == job && run.Outcome != history.Running {
			return run, true
		}
	}
	return history.Run{}, false
}

// Scheduled is one line of the schedule: a job of the configuration and its
// expression.
type Scheduled struct {
	Name string
	Cron *scheduler.Cron
}

// Crons parses the expressions of the configuration, those that are not off.
func Crons(cfg *config.Config) ([]Scheduled, error) {
	location, err := time.LoadLocation(cfg.Schedule.Timezone)
	if err != nil {
		return nil, &failure.Error{Op: "config", Subject: "schedule.timezone", Kind: failure.Config, Err: err}
	}
	var list []Scheduled
	for _, job := range cfg.Jobs() {
		cron, err := scheduler.Parse(job.Cron, location)
		if err != nil {
			return nil, &failure.Error{Op: "config", Subject: "schedule." + job.Name, Kind: failure.Config, Err: err}
		}
		if cron != nil {
			list = append(list, Scheduled{job.Name, cron})
		}
	}
	return list, nil
}

// CheckCron reports whether an expression can be scheduled, for the configuration.
func CheckCron(expression string) error {
	_, err := scheduler.Parse(expression, time.UTC)
	return err
}

// LongestGap returns the longest time between two slots of any of the
// expressions, for the configuration's warnings; one that cannot be read counts
// as off.
func LongestGap(expressions ...string) time.Duration {
	var crons []*scheduler.Cron
	for _, expression := range expressions {
		cron, err := scheduler.Parse(expression, time.UTC)
		if err == nil {
			crons = append(crons, cron)
		}
	}
	return scheduler.LongestGap(crons...)
}

// SyncJob returns the job that brings a target up to date.
func SyncJob(target string) string { return "sync:" + target }
