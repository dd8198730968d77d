package daemon

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
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
	shownRuns   = 300
)

// webState gathers everything that the dashboard, the API and the metrics show. It
// takes no lock and writes nothing.
func webState(ctx context.Context, a *app.App, now time.Time) (*web.State, error) {
	status, err := a.Status(ctx, now)
	if err != nil {
		return nil, err
	}
	list, warnings, err := a.Snapshots(ctx, now)
	if err != nil {
		warnings = append(warnings, err.Error()) // the report says what that means
	}
	state := &web.State{
		Now: now, Location: a.Location(), Host: a.Options.Host, Version: a.Options.Version,
		Status: status, BackupDir: a.Config.Backup.Dir, Snapshots: list, Warnings: warnings,
		Commands: shownCommands(a),
	}
	state.FreeBytes = -1
	if status.Space != nil {
		state.FreeBytes = status.Space.Free
	}
	state.Decision = retention.Plan(validated(list), a.Policy(a.Config.Retention), now)
	addHistory(ctx, a, now, state, status.Alarms)
	schedule, err := a.Schedule(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, job := range schedule.Jobs {
		if len(job.Next) > 0 {
			state.Next = append(state.Next, web.Upcoming{Job: job.Job, At: job.Next[0]})
		}
	}
	addTargets(a, now, state)
	return state, nil
}

// validated is what retention is shown to decide about: what was never validated
// will be, before anything is pruned, and until then has no verdict. Who is
// reading a snapshot is not asked, because asking takes its lock for a moment.
func validated(list []snapshot.Snapshot) []retention.Snapshot {
	var plan []retention.Snapshot
	for _, s := range list {
		if s.Valid != nil && !s.Foreign {
			plan = append(plan, app.ForRetention(s))
		}
	}
	return plan
}

// addHistory adds what the history remembers. What cannot be read is logged and
// missing.
func addHistory(ctx context.Context, a *app.App, now time.Time, state *web.State, open []history.Alarm) {
	runs, err := a.History().Runs(ctx, "backup", now.AddDate(0, -shownMonths, 0), shownTakes)
	a.NoteHistoryError(err)
	for _, run := range slices.Backward(runs) {
		if run.Outcome == history.OK && run.Stamp != "" {
			state.Takes = append(state.Takes, web.Take{
				Stamp: snapshot.Stamp(run.Stamp), Full: health.DetailOf(run).Full, Bytes: run.Bytes,
				Duration: run.FinishedAt.Sub(run.StartedAt),
			})
		}
	}
	recent, err := a.History().Runs(ctx, "", time.Time{}, shownRuns)
	a.NoteHistoryError(err)
	state.Recent = slices.Clone(recent)
	state.Runs = slices.DeleteFunc(recent, func(run history.Run) bool { return run.Outcome != history.Running })
	jobs := []string{"backup", "prune", "scrub", "drill", "restore"}
	for _, t := range a.Config.Offsite {
		jobs = append(jobs, app.SyncJob(t.Name))
		pushes, err := a.History().Pushes(ctx, t.Name, shownPushes)
		a.NoteHistoryError(err)
		state.Pushes = append(state.Pushes, pushes...)
	}
	slices.SortStableFunc(state.Pushes, func(x, y history.Push) int { return y.At.Compare(x.At) })
	for _, job := range jobs {
		run, found, err := a.History().LastRun(ctx, job)
		if a.NoteHistoryError(err); err == nil && found {
			state.Runs = append(state.Runs, run)
		}
	}
	slices.SortStableFunc(state.Runs, func(x, y history.Run) int { return y.StartedAt.Compare(x.StartedAt) })
	state.Drills, err = a.History().Drills(ctx, shownEvents)
	a.NoteHistoryError(err)
	alarms, err := a.History().Alarms(ctx, shownEvents)
	a.NoteHistoryError(err)
	over := slices.DeleteFunc(alarms, func(alarm history.Alarm) bool { return alarm.ResolvedAt.IsZero() })
	state.Alarms = append(slices.Clone(open), over...)
}

// addTargets adds how the targets were last seen.
func addTargets(a *app.App, now time.Time, state *web.State) {
	for _, t := range a.Config.Offsite {
		vault, err := offsite.LoadState(a.Config.StateDir, t.Name)
		if err != nil {
			vault = &offsite.State{} // its leg says why
		}
		leg, _ := state.Status.Leg(health.LegOffsite(t.Name))
		target := web.Target{
			Name: t.Name, Type: t.Type, Place: placeOf(t), Level: cmp.Or(leg.Level, health.LevelOK),
			Stamps:      slices.Sorted(slices.Values(vault.Stamps)),
			LastSuccess: orZero(leg.LastSuccess), LastAttempt: orZero(leg.LastAttempt), LastError: leg.Message,
			Limit: leg.Limit, Away: leg.Away,
		}
		if target.Away {
			target.Stamps = nil // what it held when it was there is no copy
		}
		for _, s := range owed(a, t, target.Stamps, state, now) {
			target.Behind++
			target.BehindBytes += s.Bytes
		}
		state.Targets = append(state.Targets, target)
	}
}

// owed returns the local snapshots that a target should get and was not seen to
// hold. Of what it holds and this machine has pruned only the stamp and whether
// it was full are known, which is enough for a forecast; the sync itself asks
// the vault.
func owed(a *app.App, t config.Target, held []snapshot.Stamp, state *web.State, now time.Time) []snapshot.Snapshot {
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
	for _, stamp := range offsite.MissingSnapshots(validated(state.Snapshots), stored, a.Policy(t.Retention), now) {
		owed = append(owed, local[stamp])
	}
	return owed
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
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
func shownCommands(a *app.App) web.Commands {
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
