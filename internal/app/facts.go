package app

import (
	"context"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// Legs are those that the configuration asks for.
func Legs(c *config.Config) []health.WatchedLeg {
	var list []health.WatchedLeg
	add := func(wanted bool, l health.WatchedLeg) {
		if wanted && l.Limit > 0 {
			list = append(list, l)
		}
	}
	daily, weekly := c.Schedule.Daily != "", c.Schedule.Weekly != ""
	often, prune := c.Alarms.Snapshot.Std(), c.Alarms.Prune.Std()
	job := "daily"
	if !daily { // then the weekly take is the only one, and prune comes after it
		job = "weekly"
		if full := c.Alarms.Full.Std(); full > 0 {
			often, prune = max(often, full), max(prune, full)
		}
	}
	add(daily || weekly, health.WatchedLeg{Name: health.LegSnapshot, Limit: often, Job: job, Runs: "backup", Holds: true, Stale: health.LevelCritical})
	add(weekly, health.WatchedLeg{Name: health.LegFull, Limit: c.Alarms.Full.Std(), Job: "weekly", Runs: "backup", Holds: true, Stale: health.LevelCritical})
	for _, t := range c.Offsite {
		add(true, health.WatchedLeg{Name: health.LegOffsite(t.Name), Limit: t.MaxAge.Std(), Job: SyncJob(t.Name), Runs: SyncJob(t.Name), Stale: health.LevelCritical})
	}
	add(daily || weekly, health.WatchedLeg{Name: health.LegPrune, Limit: prune, Job: job, Runs: "prune", Stale: health.LevelCritical})
	add(c.Schedule.Scrub != "", health.WatchedLeg{Name: health.LegScrub, Limit: c.Alarms.Scrub.Std(), Job: "scrub", Runs: "scrub", Stale: health.LevelCritical})
	add(c.Schedule.Drill != "", health.WatchedLeg{Name: health.LegDrill, Limit: c.Alarms.Drill.Std(), Job: "drill", Runs: "drill", Stale: health.LevelWarning})
	return list
}

// Facts gathers what the legs are judged by. What cannot be found out is a fact
// about the leg that needs it.
func (a *App) Facts(ctx context.Context, now time.Time, open []history.Alarm) []health.LegInputs {
	// First what was written last: a take that ends meanwhile must not show as
	// a success without a snapshot.
	seen := a.SeenLegs(ctx)
	list, _, listErr := a.Snapshots(ctx, now)
	holders, _ := a.OffsiteHolders() // a target's unreadable state means only that its newest is unknown
	var all []health.LegInputs
	blocked := false
	for _, l := range Legs(a.Config) {
		f := health.LegInputs{WatchedLeg: l, Seen: seen[l.Name]}
		f.Since, _, _ = a.history.FirstStart(ctx, l.Job)
		f.Last, f.Running = a.newestRun(ctx, l)
		for i := range open {
			if open[i].Leg == l.Name {
				f.Open = &open[i]
			}
		}
		switch {
		case l.Holds && listErr != nil:
			f.Err = listErr
		case l.Holds:
			f.Newest = NewestTime(list, l.Name == health.LegFull, now)
		default:
			f.Newest = NewestAt(holders, l.Name, now)
			f.Blocked = blocked && l.Name != health.LegScrub && l.Name != health.LegDrill
		}
		if l.Name == health.LegSnapshot {
			blocked = health.Judge(f, now).Level == health.LevelCritical || now.Sub(f.Newest) < health.FollowGrace
		}
		all = append(all, f)
	}
	return all
}

// SeenLegs tells how each leg last went, by the history and by this process,
// whichever knows more.
func (a *App) SeenLegs(ctx context.Context) map[string]history.Leg {
	recorded, err := a.history.Legs(ctx)
	a.NoteHistoryError(err)
	seen := make(map[string]history.Leg)
	for _, l := range recorded {
		seen[l.Name] = l
	}
	a.process.mu.Lock()
	defer a.process.mu.Unlock()
	for name, l := range a.process.legs {
		known := seen[name]
		if l.LastSuccess.Before(known.LastSuccess) {
			l.LastSuccess = known.LastSuccess
		}
		// The history keeps milliseconds.
		if l.LastAttempt.Truncate(time.Millisecond).After(known.LastAttempt) {
			seen[name] = l
		}
	}
	return seen
}

// recentRuns is how many runs of a job are looked through for one of a leg.
const recentRuns = 64

// newestRun gives a leg's newest run that ended and was not cut short, and
// whether one is under way.
func (a *App) newestRun(ctx context.Context, l health.WatchedLeg) (last history.Run, running bool) {
	runs, err := a.history.Runs(ctx, l.Runs, time.Time{}, recentRuns)
	a.NoteHistoryError(err)
	for _, run := range runs {
		if run.Outcome == history.Running {
			running = true
			continue
		}
		if run.Outcome == history.Interrupted || l.Name == health.LegFull && !health.DetailOf(run).Full {
			continue
		}
		last = run
		break
	}
	a.process.mu.Lock()
	defer a.process.mu.Unlock()
	if own, ok := a.process.runs[l.Name]; ok && own.FinishedAt.Truncate(time.Millisecond).After(last.FinishedAt) && own.Outcome != history.Interrupted {
		last = own
	}
	return last, running
}

// NewestTime returns the time of the newest snapshot that counts; zero for none.
func NewestTime(list []snapshot.Snapshot, full bool, now time.Time) time.Time {
	if s := snapshot.Newest(list, now, full); s != nil {
		return s.Stamp.Time()
	}
	return time.Time{}
}

// NewestAt gives the time of the newest snapshot that a target is known to
// hold; zero for a leg that is about none.
func NewestAt(holders map[snapshot.Stamp][]string, leg string, now time.Time) (at time.Time) {
	for stamp, targets := range holders {
		for _, target := range targets {
			if t := stamp.Time(); health.LegOffsite(target) == leg && t.After(at) && !t.After(now) {
				at = t
			}
		}
	}
	return at
}
