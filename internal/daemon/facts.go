package daemon

import (
	"context"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// legs are those that the configuration asks for.
func legs(c *config.Config) []leg {
	var list []leg
	add := func(wanted bool, l leg) {
		if wanted && l.limit > 0 {
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
	add(daily || weekly, leg{name: legSnapshot, limit: often, job: job, runs: "backup", holds: true, stale: LevelCritical})
	add(weekly, leg{name: legFull, limit: c.Alarms.Full.Std(), job: "weekly", runs: "backup", holds: true, stale: LevelCritical})
	for _, t := range c.Offsite {
		add(true, leg{name: legOffsite(t.Name), limit: t.MaxAge.Std(), job: syncJob(t.Name), runs: syncJob(t.Name), stale: LevelCritical})
	}
	add(daily || weekly, leg{name: legPrune, limit: prune, job: job, runs: "prune", stale: LevelCritical})
	add(c.Schedule.Scrub != "", leg{name: legScrub, limit: c.Alarms.Scrub.Std(), job: "scrub", runs: "scrub", stale: LevelCritical})
	add(c.Schedule.Drill != "", leg{name: legDrill, limit: c.Alarms.Drill.Std(), job: "drill", runs: "drill", stale: LevelWarning})
	return list
}

// facts gathers what the legs are judged by. What cannot be found out is a fact
// about the leg that needs it.
func (a *App) facts(ctx context.Context, now time.Time, open []history.Alarm) []facts {
	// First what was written last: a take that ends meanwhile must not show as
	// a success without a snapshot.
	seen := a.seenLegs(ctx)
	list, _, listErr := a.snapshots(ctx, now)
	holders, _ := a.offsiteHolders() // a target's unreadable state means only that its newest is unknown
	var all []facts
	blocked := false
	for _, l := range legs(a.Config) {
		f := facts{leg: l, seen: seen[l.name]}
		f.since, _, _ = a.history.FirstStart(ctx, l.job)
		f.last, f.running = a.newestRun(ctx, l)
		for i := range open {
			if open[i].Leg == l.name {
				f.open = &open[i]
			}
		}
		switch {
		case l.holds && listErr != nil:
			f.err = listErr
		case l.holds:
			f.newest = newest(list, l.name == legFull, now)
		default:
			f.newest = newestAt(holders, l.name, now)
			f.blocked = blocked && l.name != legScrub && l.name != legDrill
		}
		if l.name == legSnapshot {
			blocked = judge(f, now).level == LevelCritical || now.Sub(f.newest) < followGrace
		}
		all = append(all, f)
	}
	return all
}

// seenLegs tells how each leg last went, by the history and by this process,
// whichever knows more.
func (a *App) seenLegs(ctx context.Context) map[string]history.Leg {
	recorded, err := a.history.Legs(ctx)
	a.record(err)
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
func (a *App) newestRun(ctx context.Context, l leg) (last history.Run, running bool) {
	runs, err := a.history.Runs(ctx, l.runs, time.Time{}, recentRuns)
	a.record(err)
	for _, run := range runs {
		if run.Outcome == history.Running {
			running = true
			continue
		}
		if run.Outcome == history.Interrupted || l.name == legFull && !detailOf(run).Full {
			continue
		}
		last = run
		break
	}
	a.process.mu.Lock()
	defer a.process.mu.Unlock()
	if own, ok := a.process.runs[l.name]; ok && own.FinishedAt.Truncate(time.Millisecond).After(last.FinishedAt) && own.Outcome != history.Interrupted {
		last = own
	}
	return last, running
}

// newest gives the time of the newest valid snapshot that holds a slot. One of
// the future counts for nothing: it would hide that no others come.
func newest(list []snapshot.Snapshot, full bool, now time.Time) (at time.Time) {
	for _, s := range list {
		t := s.Stamp.Time()
		if s.IsValid() && s.Kind.HoldsSlots() && (s.Full || !full) && t.After(at) && t.Sub(now) <= clockSlack {
			at = t
		}
	}
	return at
}

// newestAt gives the time of the newest snapshot that a target is known to
// hold; zero for a leg that is about none.
func newestAt(holders map[snapshot.Stamp][]string, leg string, now time.Time) (at time.Time) {
	for stamp, targets := range holders {
		for _, target := range targets {
			if t := stamp.Time(); legOffsite(target) == leg && t.After(at) && t.Sub(now) <= clockSlack {
				at = t
			}
		}
	}
	return at
}
