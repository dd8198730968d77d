package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot"
)

// Bounds on single runs: a job that hangs past its own is cancelled and told.
const (
	takeTimeout  = 6 * time.Hour
	syncTimeout  = 48 * time.Hour // a first push over a slow line
	pruneTimeout = 6 * time.Hour
	scrubTimeout = 24 * time.Hour
	drillTimeout = 6 * time.Hour
)

// takeRetries is how often a failed take is tried again before it has failed.
const takeRetries = 3

// scheduled is one line of the schedule: a job of the configuration and its
// expression.
type scheduled struct {
	name string
	cron *scheduler.Cron
}

// crons parses the expressions of the configuration, those that are not off.
func crons(cfg *config.Config) ([]scheduled, error) {
	location, err := time.LoadLocation(cfg.Schedule.Timezone)
	if err != nil {
		return nil, &failure.Error{Op: "config", Subject: "schedule.timezone", Kind: failure.Config, Err: err}
	}
	var list []scheduled
	s := cfg.Schedule
	for _, job := range []struct{ name, expr string }{{"daily", s.Daily}, {"weekly", s.Weekly}, {"scrub", s.Scrub}, {"drill", s.Drill}} {
		cron, err := scheduler.Parse(job.expr, location)
		if err != nil {
			return nil, &failure.Error{Op: "config", Subject: "schedule." + job.name, Kind: failure.Config, Err: err}
		}
		if cron != nil {
			list = append(list, scheduled{job.name, cron})
		}
	}
	return list, nil
}

// CheckCron tells whether an expression can be scheduled, for the configuration.
func CheckCron(expression string) error {
	_, err := scheduler.Parse(expression, time.UTC)
	return err
}

// jobs makes the scheduler's jobs. trigger starts another one by name.
func (a *App) jobs(trigger func(name string)) ([]scheduler.Job, error) {
	list, err := crons(a.Config)
	if err != nil {
		return nil, err
	}
	var jobs []scheduler.Job
	for _, s := range list {
		job := scheduler.Job{Name: s.name, Cron: s.cron, NoCatchUp: !a.Config.Schedule.CatchUp}
		switch s.name {
		case "scrub":
			job.Timeout = scrubTimeout
			job.Run = func(ctx context.Context, slot scheduler.Slot) error {
				_, err := a.Scrub(withAttempt(ctx, slot, 0), time.Now(), ScrubBounds{a.Config.Schedule.ScrubMaxBytes.Bytes(), scrubEnough})
				return err
			}
		case "drill":
			job.Timeout = drillTimeout
			job.Run = func(ctx context.Context, slot scheduler.Slot) error {
				_, err := a.Drill(withAttempt(ctx, slot, 0), "latest", slot.At)
				return err
			}
		default:
			kind := snapshot.Kind(s.name)
			full := kind == snapshot.Weekly
			job.Group, job.Timeout, job.Retries = "take", takeTimeout, takeRetries
			if full {
				job.Covers = []string{string(snapshot.Daily)}
			}
			job.Run = func(ctx context.Context, slot scheduler.Slot) error {
				if _, err := a.Backup(withAttempt(ctx, slot, takeRetries), kind, full, slot.At); err != nil {
					return err
				}
				for _, t := range a.Config.Offsite {
					trigger(syncJob(t.Name))
				}
				trigger("prune")
				return nil
			}
		}
		jobs = append(jobs, job)
	}
	return append(append(jobs, a.followUps()...), a.thawJobs()...), nil
}

func syncJob(target string) string { return "sync:" + target }

// followUps are the jobs that a take starts: each target's sync, and then the
// prune, which waits for them so that what it deletes has had its chance to be
// shipped. A target that was not reached is tried again by itself.
func (a *App) followUps() []scheduler.Job {
	var jobs []scheduler.Job
	for _, t := range a.Config.Offsite {
		behind := true // until a sync went well; the first one finds out
		jobs = append(jobs, scheduler.Job{
			Name: syncJob(t.Name), Group: "ship", Cron: scheduler.Every(t.RetryEvery.Std()), NoCatchUp: true, Timeout: syncTimeout,
			Run: func(ctx context.Context, slot scheduler.Slot) error {
				if slot.Triggered {
					behind = true
				}
				if !behind && !a.lags(ctx, t.Name) {
					return nil
				}
				docs, err := a.Sync(withAttempt(ctx, slot, 0), t.Name, false)
				if failure.KindOf(err) == failure.Unreachable {
					return fmt.Errorf("%w: %w", scheduler.ErrSkipped, err)
				}
				behind = err != nil || len(docs) == 0
				return err
			},
		})
	}
	return append(jobs, scheduler.Job{
		Name: "prune", Group: "ship", Timeout: pruneTimeout,
		Run: func(ctx context.Context, slot scheduler.Slot) error {
			_, err := a.Prune(withAttempt(ctx, slot, 0), time.Now(), false, false)
			_, historyErr := a.history.Prune(ctx, time.Now())
			a.record(historyErr)
			return err
		},
	})
}

// lags tells whether a target lacks the newest snapshot: one that a person took
// started no sync.
func (a *App) lags(ctx context.Context, target string) bool {
	now := time.Now()
	list, _, err := a.snapshots(ctx, now)
	if err != nil {
		return true // the sync will say why
	}
	holders, err := a.offsiteHolders()
	return err != nil || newest(list, false, now).After(newestAt(holders, legOffsite(target), now))
}
