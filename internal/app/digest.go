package app

import (
	"context"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/scheduler"
)

// DigestJob is the job that tells how things stand although all is well.
const DigestJob = "digest"

// DigestCron returns when that is; nil for never.
func DigestCron(cfg *config.Config) (*scheduler.Cron, error) {
	location, err := time.LoadLocation(cfg.Schedule.Timezone)
	if err != nil {
		return nil, &failure.Error{Op: "config", Subject: "schedule.timezone", Kind: failure.Config, Err: err}
	}
	cron, err := scheduler.Parse(cfg.Notify.Digest, location)
	if err != nil {
		return nil, &failure.Error{Op: "config", Subject: "notify.digest", Kind: failure.Config, Err: err}
	}
	return cron, nil
}

// Digest sends how things stand at now through say.
func (a *App) Digest(ctx context.Context, now, slot time.Time, say func(notify.Message) error) error {
	return a.runJob(ctx, DigestJob, "", history.Run{Slot: slot}, func(run *jobRun) error {
		status, err := a.Status(ctx, now)
		if err != nil {
			return err
		}
		title, body := health.Digest(status, a.lately(ctx, now), a.Options.Host)
		level := map[string]notify.Level{health.LevelOK: notify.Info, health.LevelWarning: notify.Warning}[status.Level]
		if level == "" {
			level = notify.Critical
		}
		return say(notify.Message{Title: title, Body: body, Level: level})
	})
}

// lately gathers what happened in the time that a digest sums up. What cannot be
// read is missing, and the condition history says why.
func (a *App) lately(ctx context.Context, now time.Time) health.Lately {
	l := health.Lately{Sent: make(map[string]int64)}
	since := health.DigestSince(now)
	runs, err := a.history.Runs(ctx, "", since, maxRuns)
	a.NoteHistoryError(err)
	for _, run := range runs {
		if run.Job != DaemonJob && run.Outcome != history.Running {
			l.Runs = append(l.Runs, run)
		}
	}
	for _, t := range a.Config.Offsite {
		pushes, err := a.history.Pushes(ctx, t.Name, maxRuns)
		a.NoteHistoryError(err)
		for _, p := range pushes {
			if p.At.After(since) {
				l.Sent[t.Name] += p.Bytes
			}
		}
	}
	return l
}
