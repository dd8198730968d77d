package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot"
)

// Bounds on single runs: a job that hangs past its own is cancelled and told.
const (
	takeTimeout  = 6 * time.Hour
	syncTimeout  = 48 * time.Hour // a first push over a slow line
	pruneTimeout = 6 * time.Hour
	drillTimeout = 6 * time.Hour

	verifyTimeout = 24 * time.Hour
	digestTimeout = time.Hour
)

// takeRetries is how often a failed take is tried again before it has failed.
const takeRetries = 3

// jobs makes the scheduler's jobs. trigger starts another one by name, say sends a
// message to people.
func jobs(
	a *app.App, trigger func(name string), say func(context.Context, notify.Message) error,
) ([]scheduler.Job, error) {
	list, err := app.Crons(a.Config)
	if err != nil {
		return nil, err
	}
	var all []scheduler.Job
	for _, s := range list {
		job := scheduler.Job{Name: s.Name, Cron: s.Cron, NoCatchUp: !a.Config.Schedule.CatchUp}
		switch s.Name {
		case "scrub":
			job.Timeout = app.ScrubTimeout
			job.Run = func(ctx context.Context, slot scheduler.Slot) error {
				_, err := a.Scrub(ctx, time.Now(), app.ScrubBounds{Bytes: a.Config.Schedule.ScrubMaxBytes.Bytes(),
					Time: app.ScrubEnough})
				return err
			}
		case "verify":
			job.Run = func(ctx context.Context, slot scheduler.Slot) error {
				for _, t := range a.Config.Offsite {
					trigger(app.VerifyJob(t.Name))
				}
				return nil
			}
		case "drill":
			job.Timeout = drillTimeout
			job.Run = func(ctx context.Context, slot scheduler.Slot) error {
				_, err := a.Drill(ctx, "latest", slot.At, "")
				return err
			}
		default:
			kind := snapshot.Kind(s.Name)
			job.Group, job.Timeout, job.Retries, job.Retryable = "take", takeTimeout, takeRetries, worthRetrying
			job.Covers = covered(kind, list)
			job.Run = func(ctx context.Context, slot scheduler.Slot) error {
				if _, err := a.Backup(ctx, kind, kind.Full(), slot.At); err != nil {
					return err
				}
				for _, t := range a.Config.Offsite {
					trigger(app.SyncJob(t.Name))
				}
				trigger("prune")
				return nil
			}
		}
		all = append(all, job)
	}
	digest, err := digestJobs(a, say)
	if err != nil {
		return nil, err
	}
	return slices.Concat(all, followUps(a), thawJobs(a), digest), nil
}

// digestJobs returns the job that tells people how things stand although all is
// well.
func digestJobs(a *app.App, say func(context.Context, notify.Message) error) ([]scheduler.Job, error) {
	cron, err := app.DigestCron(a.Config)
	if err != nil || cron == nil {
		return nil, err
	}
	return []scheduler.Job{{
		Name: app.DigestJob, Cron: cron, Timeout: digestTimeout, Retries: takeRetries,
		Run: func(ctx context.Context, slot scheduler.Slot) error {
			return a.Digest(ctx, time.Now(), slot.At, func(m notify.Message) error { return say(ctx, m) })
		},
	}}, nil
}

// worthRetrying reports whether a failed take is tried again. One that failed its
// validation is once, in case it was torn; a source that is damaged stays so.
func worthRetrying(err error, attempt int) bool {
	return failure.KindOf(err) != failure.Invalid || attempt == 1
}

// covered returns the scheduled takes that one of a kind does as well: the fullest
// of those that fall due together serves them all.
func covered(kind snapshot.Kind, list []app.Scheduled) []string {
	order := []snapshot.Kind{snapshot.Daily, snapshot.Weekly, snapshot.Monthly}
	var names []string
	for _, less := range order[:slices.Index(order, kind)] {
		if slices.ContainsFunc(list, func(s app.Scheduled) bool { return s.Name == string(less) }) {
			names = append(names, string(less))
		}
	}
	return names
}

// followUps are the jobs that others start: each target's sync and the prune after
// a take, each target's verify when it is due. A target that was not reached is
// tried again by itself. What is about one target goes one after the other; nothing
// else waits for it, for a first push may take a day.
func followUps(a *app.App) []scheduler.Job {
	var jobs []scheduler.Job
	for _, t := range a.Config.Offsite {
		behind := true // until a sync went well; the first one finds out
		jobs = append(jobs, scheduler.Job{
			Name: app.SyncJob(t.Name), Group: "target " + t.Name, Cron: scheduler.Every(t.RetryEvery.Std()),
			NoCatchUp: true, Timeout: syncTimeout,
			Run: func(ctx context.Context, slot scheduler.Slot) error {
				if slot.Triggered {
					behind = true
				}
				if !behind && !lags(ctx, a, t.Name) {
					return nil
				}
				docs, err := a.Sync(ctx, t.Name, false)
				if failure.KindOf(err) == failure.Unreachable {
					return fmt.Errorf("%w: %w", scheduler.ErrSkipped, err)
				}
				behind = err != nil || len(docs) == 0
				return err
			},
		}, verifyJob(a, t))
	}
	return append(jobs, scheduler.Job{
		Name: "prune", Timeout: pruneTimeout,
		Run: func(ctx context.Context, slot scheduler.Slot) error {
			_, err := a.Prune(ctx, time.Now(), false, false)
			_, historyErr := a.History().Prune(ctx, time.Now())
			a.NoteHistoryError(historyErr)
			return err
		},
	})
}

// verifyJob re-reads the vault of one target once it is due, until it was reached.
func verifyJob(a *app.App, t config.Target) scheduler.Job {
	due := false
	return scheduler.Job{
		Name: app.VerifyJob(t.Name), Group: "target " + t.Name, Cron: scheduler.Every(t.RetryEvery.Std()),
		NoCatchUp: true, Timeout: verifyTimeout,
		Run: func(ctx context.Context, slot scheduler.Slot) error {
			if due = due || slot.Triggered; !due || isNew(a, t.Name) {
				return nil
			}
			s := a.Config.Schedule
			_, err := a.VerifyTarget(ctx, t, app.VerifyBounds{Bytes: s.VerifyMaxBytes.Bytes(),
				Every: s.VerifyEvery.Std(), Fraction: 1})
			if failure.KindOf(err) == failure.Unreachable {
				return fmt.Errorf("%w: %w", scheduler.ErrSkipped, err)
			}
			due = failure.KindOf(err) == failure.Interrupted
			return err
		},
	}
}

// isNew reports whether nothing has ever reached a target.
func isNew(a *app.App, target string) bool {
	state, err := offsite.LoadState(a.Config.StateDir, target)
	return err == nil && state.IsNew()
}

// lags reports whether a target lacks the newest snapshot: one that a person took
// started no sync.
func lags(ctx context.Context, a *app.App, target string) bool {
	now := time.Now()
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return true // the sync will say why
	}
	holders, err := a.OffsiteHolders()
	newest := snapshot.Newest(list, now, false)
	return err != nil || newest != nil && newest.Stamp.Time().After(app.NewestAt(holders,
		health.LegOffsite(target), now))
}

// isTake reports whether a job takes snapshots, which is tried again when it
// fails.
func isTake(job string) bool { return len(legsOf(job)) > 0 && legsOf(job)[0] == health.LegSnapshot }

// legsOf returns the legs that a job of the schedule is about.
func legsOf(job string) []string {
	switch job {
	case "daily":
		return []string{health.LegSnapshot}
	case "weekly", "monthly":
		return []string{health.LegSnapshot, health.LegFull}
	case "prune", "scrub", "drill":
		return []string{job}
	}
	if target, ok := strings.CutPrefix(job, app.SyncJob("")); ok {
		return []string{health.LegOffsite(target)}
	}
	if target, ok := strings.CutPrefix(job, app.VerifyJob("")); ok {
		return []string{health.LegVerify(target)}
	}
	return nil
}
