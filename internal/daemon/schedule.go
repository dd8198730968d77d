package daemon

import (
	"context"
	"time"

	"github.com/atocore/atobackupd/internal/history"
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
}

// Schedule tells when each job runs next and how it went last.
func (a *App) Schedule(ctx context.Context, now time.Time) (Schedule, error) {
	doc := Schedule{Timezone: a.Config.Schedule.Timezone, Jobs: []ScheduleEntry{}}
	list, err := crons(a.Config)
	if err != nil {
		return doc, err
	}
	for _, s := range list {
		served, _, err := a.history.Served(ctx, s.name)
		a.record(err)
		entry := ScheduleEntry{Job: s.name, Expr: s.cron.String(), Next: s.cron.Upcoming(served, now, 3)}
		if run, ok := a.lastRun(ctx, s.name); ok {
			entry.Last, entry.LastOutcome, entry.LastError = run.StartedAt, string(run.Outcome), run.Error
		}
		doc.Jobs = append(doc.Jobs, entry)
	}
	return doc, nil
}

// lastRun finds the newest run of a scheduled job. Takes are recorded as one
// job, told apart by the kind of their snapshot.
func (a *App) lastRun(ctx context.Context, job string) (history.Run, bool) {
	if job != "daily" && job != "weekly" {
		run, ok, err := a.history.LastRun(ctx, job)
		a.record(err)
		return run, ok && err == nil
	}
	runs, err := a.history.Runs(ctx, "backup", time.Time{}, 100)
	a.record(err)
	for _, run := range runs {
		if run.Kind == job && run.Outcome != history.Running {
			return run, true
		}
	}
	return history.Run{}, false
}
