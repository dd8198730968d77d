package app

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// Status says how everything stands at now: the report that every mouth shows,
// and what goes with it.
func (a *App) Status(ctx context.Context, now time.Time) (health.Status, error) {
	if err := a.historyHidden(); err != nil {
		return health.Status{}, err
	}
	facts, list := a.Facts(ctx, now)
	doc := health.Status{
		Report: health.Judge(facts, now), Daemon: health.DaemonStatus{State: facts.Daemon.State,
			Beat: facts.Daemon.Beat}, Running: []health.RunningStatus{}, Snapshots: sumUp(list, now),
		Targets: []health.TargetStatus{}, Alarms: []history.Alarm{},
	}
	if facts.Mount == nil { // else that would be another disk's
		doc.Space = a.space(ctx, now)
	}
	if since := facts.Daemon.Since; !since.IsZero() {
		doc.Daemon.Since = &since
	}
	open, err := a.history.OpenAlarms(ctx)
	a.NoteHistoryError(err)
	doc.Alarms = append(doc.Alarms, open...)
	recent, err := a.history.Runs(ctx, "", time.Time{}, recentRuns)
	a.NoteHistoryError(err)
	for _, run := range recent {
		if run.Outcome == history.Running && run.Job != DaemonJob {
			doc.Running = append(doc.Running, health.RunningStatus{Job: run.Job, Kind: run.Kind, Since: run.StartedAt,
				Progress: a.progressOfRun(run.Job, run.ID)})
		}
	}
	doc.Targets = a.targetStatus(doc.Report, list, now)
	return doc, nil
}

// historyHidden refuses to judge without a history that is there and that this user
// may not read: a healthy installation would be called one that never ran.
func (a *App) historyHidden() error {
	f, err := os.OpenFile(a.historyPath(), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return &failure.Error{Op: "status", Subject: a.historyPath(), Err: err,
			Hint: "ask as root: sudo atobackupd status"}
	}
	if err == nil {
		err = f.Close()
	}
	if fsx.IsMissing(err) {
		return nil
	}
	return err
}

// NextSlots returns the next slot of each job.
func (a *App) NextSlots(ctx context.Context, now time.Time) (map[string]time.Time, error) {
	schedule, err := a.Schedule(ctx, now)
	next := make(map[string]time.Time)
	for _, job := range schedule.Jobs {
		if len(job.Next) > 0 {
			next[job.Job] = job.Next[0]
		}
	}
	return next, err
}

func sumUp(list []snapshot.Snapshot, now time.Time) health.SnapshotsStatus {
	var s health.SnapshotsStatus
	for _, snap := range list {
		s.Count++
		s.Bytes += snap.Bytes
		if snap.IsValid() {
			s.Valid++
			if snap.Full {
				s.Full++
			}
		}
	}
	if newest := snapshot.Newest(list, now, false); newest != nil {
		s.Newest = string(newest.Stamp)
	}
	if newest := snapshot.Newest(list, now, true); newest != nil {
		s.NewestFull = string(newest.Stamp)
	}
	return s
}

func (a *App) targetStatus(r health.Report, list []snapshot.Snapshot, now time.Time) []health.TargetStatus {
	statuses := []health.TargetStatus{}
	holders, _ := a.OffsiteHolders() // what cannot be read counts as not held, and its sync says why
	for _, t := range a.Config.Offsite {
		s := health.TargetStatus{Name: t.Name, Type: t.Type}
		for stamp, names := range holders {
			for _, name := range names {
				if name == t.Name {
					s.Snapshots++
					if !stamp.Time().After(now) {
						s.Newest = max(s.Newest, string(stamp))
					}
				}
			}
		}
		if leg, _ := r.Leg(health.LegOffsite(t.Name)); leg.Away {
			s.Away, s.LastSeen, s.Snapshots, s.Newest = true, s.Newest, 0, ""
		}
		state, err := offsite.LoadState(a.Config.StateDir, t.Name)
		for _, snap := range list {
			forgotten := err == nil && state.IsForgotten(snap.Stamp)
			if snap.Counts(now) && string(snap.Stamp) > s.Newest && !forgotten {
				s.Behind++
			}
		}
		statuses = append(statuses, s)
	}
	return statuses
}
