package daemon

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/web"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// How much of the past the dashboard is given: what its charts can show.
const (
	shownMonths = 6
	shownTakes  = 2000
	shownPushes = 500
	shownEvents = 50
)

// look gathers everything that the dashboard, the API and the metrics show. It
// takes no lock and writes nothing.
func (a *App) look(ctx context.Context, now time.Time) (*web.State, error) {
	status, err := a.Status(ctx, now)
	if err != nil {
		return nil, err
	}
	list, warnings, err := a.snapshots(ctx, now)
	if err != nil {
		return nil, err
	}
	state := &web.State{
		Now: now, Location: a.location, Host: a.Options.Host, Version: a.Options.Version,
		Status: status, Level: status.Level, BackupDir: a.Config.Backup.Dir, Snapshots: list, Warnings: warnings,
		Commands: a.shownCommands(),
	}
	if state.FreeBytes, err = fsx.Free(a.store.Dir()); err != nil {
		state.FreeBytes = -1
	}
	if err := a.refusePending(); err != nil {
		state.Pending = err.Error()
	}
	state.Decision = retention.Plan(judged(list), a.policy(a.Config.Retention), now)
	a.lookBack(ctx, now, state, status.Alarms)
	for _, leg := range status.Legs {
		state.Legs = append(state.Legs, a.shownLeg(leg))
	}
	schedule, err := a.Schedule(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, job := range schedule.Jobs {
		if len(job.Next) > 0 {
			state.Next = append(state.Next, web.Upcoming{Job: job.Job, At: job.Next[0]})
		}
	}
	return state, a.lookAway(ctx, now, state)
}

// judged is what retention is shown to decide about: what was never validated
// will be, before anything is pruned, and until then has no verdict. Who is
// reading a snapshot is not asked, because asking takes its lock for a moment.
func judged(list []snapshot.Snapshot) []retention.Snapshot {
	var plan []retention.Snapshot
	for _, s := range list {
		if s.Valid != nil {
			plan = append(plan, forRetention(s))
		}
	}
	return plan
}

// lookBack adds what the history remembers. What it cannot give is logged and
// missing.
func (a *App) lookBack(ctx context.Context, now time.Time, state *web.State, open []history.Alarm) {
	runs, err := a.history.Runs(ctx, "backup", now.AddDate(0, -shownMonths, 0), shownTakes)
	a.record(err)
	for _, run := range slices.Backward(runs) {
		if run.Outcome == history.OK && run.Stamp != "" {
			state.Takes = append(state.Takes, web.Take{
				Stamp: snapshot.Stamp(run.Stamp), Full: detailOf(run).Full, Bytes: run.Bytes, Duration: run.FinishedAt.Sub(run.StartedAt),
			})
		}
	}
	recent, err := a.history.Runs(ctx, "", time.Time{}, shownEvents)
	a.record(err)
	state.Runs = slices.DeleteFunc(recent, func(run history.Run) bool { return run.Outcome != history.Running })
	jobs := []string{"backup", "prune", "scrub", "drill", "restore"}
	for _, t := range a.Config.Offsite {
		jobs = append(jobs, syncJob(t.Name))
		pushes, err := a.history.Pushes(ctx, t.Name, shownPushes)
		a.record(err)
		state.Pushes = append(state.Pushes, pushes...)
	}
	slices.SortStableFunc(state.Pushes, func(x, y history.Push) int { return y.At.Compare(x.At) })
	for _, job := range jobs {
		run, found, err := a.history.LastRun(ctx, job)
		if a.record(err); err == nil && found {
			state.Runs = append(state.Runs, run)
		}
	}
	slices.SortStableFunc(state.Runs, func(x, y history.Run) int { return y.StartedAt.Compare(x.StartedAt) })
	state.Drills, err = a.history.Drills(ctx, shownEvents)
	a.record(err)
	alarms, err := a.history.Alarms(ctx, shownEvents)
	a.record(err)
	over := slices.DeleteFunc(alarms, func(alarm history.Alarm) bool { return alarm.ResolvedAt.IsZero() })
	state.Alarms = append(slices.Clone(open), over...)
}

func (a *App) shownLeg(status LegStatus) web.Leg {
	leg := web.Leg{Name: status.Name, Level: status.Level, Message: status.Message}
	for _, t := range []struct {
		from *time.Time
		into *time.Time
	}{{status.LastSuccess, &leg.LastSuccess}, {status.LastAttempt, &leg.LastAttempt}, {status.Next, &leg.Next}} {
		if t.from != nil {
			*t.into = *t.from
		}
	}
	for _, l := range legs(a.Config) {
		if l.name == leg.Name {
			leg.Limit = l.limit
		}
	}
	return leg
}

// lookAway adds how the targets were last seen.
func (a *App) lookAway(ctx context.Context, now time.Time, state *web.State) error {
	seen := a.seenLegs(ctx)
	for _, t := range a.Config.Offsite {
		vault, err := offsite.LoadState(a.Config.StateDir, t.Name)
		if err != nil {
			return err
		}
		leg := seen[legOffsite(t.Name)]
		target := web.Target{
			Name: t.Name, Type: t.Type, Place: placeOf(t), Level: LevelOK, Stamps: slices.Sorted(slices.Values(vault.Stamps)),
			LastSuccess: leg.LastSuccess, LastAttempt: leg.LastAttempt, LastError: leg.LastError, Limit: t.MaxAge.Std(),
		}
		for _, l := range state.Legs {
			if l.Name == legOffsite(t.Name) {
				target.Level = l.Level
			}
		}
		for _, s := range a.owed(t, target.Stamps, state, now) {
			target.Behind++
			target.BehindBytes += s.Bytes
		}
		state.Targets = append(state.Targets, target)
	}
	return nil
}

// owed gives the local snapshots that a target should get and was not seen to
// hold. Of what it holds and this machine has pruned only the stamp and whether
// it was full are known, which is enough for a forecast; the sync itself asks
// the vault.
func (a *App) owed(t config.Target, held []snapshot.Stamp, state *web.State, now time.Time) []snapshot.Snapshot {
	full := make(map[snapshot.Stamp]bool)
	for _, take := range state.Takes {
		full[take.Stamp] = take.Full
	}
	local := make(map[snapshot.Stamp]snapshot.Snapshot)
	for _, s := range state.Snapshots {
		local[s.Stamp] = s
	}
	var stored []offsite.Stored
	for _, stamp := range held {
		info := offsite.Info{Stamp: stamp, Kind: snapshot.Daily, Full: full[stamp]}
		if s, here := local[stamp]; here {
			info.Kind, info.Full, info.Pinned = s.Kind, s.Full, s.Pinned
		}
		stored = append(stored, offsite.Stored{Info: info})
	}
	var owed []snapshot.Snapshot
	for _, stamp := range offsite.Wanted(judged(state.Snapshots), stored, a.policy(t.Policy(a.Config.Retention)), now) {
		owed = append(owed, local[stamp])
	}
	return owed
}

// placeOf says where a target's vault is.
func placeOf(t config.Target) string {
	if t.Type == "dir" || len(t.Hosts) == 0 {
		return t.Path
	}
	place := t.Hosts[0] + ":" + t.Path
	if t.User != "" {
		place = t.User + "@" + place
	}
	return place
}

// shownCommands says what the commands that are shown to be copied depend on.
func (a *App) shownCommands() web.Commands {
	r := a.Config.Restore
	c := web.Commands{
		ManageService: len(r.StopCommand) > 0 && len(r.StartCommand) > 0,
		StopService:   cmp.Or(strings.Join(r.StopCommand, " "), "docker compose down"),
		StartService:  cmp.Or(strings.Join(r.StartCommand, " "), "docker compose up -d"),
	}
	if a.Config.Path != config.DefaultPath {
		c.ConfigPath = a.Config.Path
	}
	return c
}
