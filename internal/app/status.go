package app

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// Status is the document of `status`.
type Status struct {
	Level     string             `json:"level"`
	Legs      []health.LegStatus `json:"legs"`
	Snapshots SnapshotsStatus    `json:"snapshots"`
	Space     *SpaceStatus       `json:"space"` // null where there is no backup.dir to ask
	Targets   []TargetStatus     `json:"targets"`
	Alarms    []history.Alarm    `json:"alarms"`
}

// SnapshotsStatus sums the local snapshots up.
type SnapshotsStatus struct {
	Count      int            `json:"count"`
	Valid      int            `json:"valid"`
	Full       int            `json:"full"`
	Bytes      int64          `json:"bytes"`
	Newest     snapshot.Stamp `json:"newest"`      // the newest valid one; "" if there is none
	NewestFull snapshot.Stamp `json:"newest_full"` // the newest valid one with Chroma
}

// TargetStatus says how one target stands.
type TargetStatus struct {
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Snapshots int            `json:"snapshots"`
	Newest    snapshot.Stamp `json:"newest"`
	Behind    int            `json:"behind"` // valid local snapshots that it does not hold
}

// Status tells how everything stands at now, by the judgement that the alarms
// go by.
func (a *App) Status(ctx context.Context, now time.Time) (Status, error) {
	doc := Status{Level: health.LevelOK, Legs: []health.LegStatus{}, Targets: []TargetStatus{}, Alarms: []history.Alarm{}}
	if err := a.historyHidden(); err != nil {
		return doc, err
	}
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return doc, err
	}
	doc.Snapshots, doc.Space = sumUp(list, now), a.space(ctx, now)
	next, err := a.NextSlots(ctx, now)
	if err != nil {
		return doc, err
	}
	open, err := a.history.OpenAlarms(ctx)
	a.NoteHistoryError(err)
	doc.Alarms = append(doc.Alarms, open...)
	for _, f := range a.Facts(ctx, now, open) {
		status := describeLeg(f, health.Judge(f, now), now)
		if at, ok := next[f.Job]; ok {
			status.Next = &at
		}
		doc.Legs = append(doc.Legs, status)
		doc.Level = health.Worse(doc.Level, status.Level)
	}
	for _, alarm := range open {
		// That of a leg speaks through the leg; what else the daemon found, a
		// configuration that it refused, speaks for itself.
		if !slices.ContainsFunc(doc.Legs, func(l health.LegStatus) bool { return l.Name == alarm.Leg }) {
			doc.Level = health.Worse(doc.Level, alarm.Level)
		}
	}
	doc.Targets, err = a.targetStatus(list, now)
	return doc, err
}

// historyHidden tells whether there is a history that this user may not read.
// To judge without it would call a healthy installation one that never ran.
func (a *App) historyHidden() error {
	path := filepath.Join(a.Config.StateDir, "history.db")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return &failure.Error{Op: "status", Subject: path, Err: err, Hint: "ask as root: sudo atobackupd status"}
	}
	if err == nil {
		err = f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// describeLeg writes a judgement with the times that it was made from.
func describeLeg(f health.LegInputs, j health.LegHealth, now time.Time) health.LegStatus {
	s := health.LegStatus{Name: f.Name, Level: j.Level, Message: j.Message}
	if at := f.Seen.LastAttempt; !at.IsZero() {
		s.LastAttempt = &at
	}
	if at := f.Seen.LastSuccess; !at.IsZero() {
		seconds := int64(now.Sub(at).Seconds())
		s.LastSuccess, s.AgeS = &at, &seconds
	}
	return s
}

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

func sumUp(list []snapshot.Snapshot, now time.Time) SnapshotsStatus {
	var s SnapshotsStatus
	for _, snap := range list {
		s.Count++
		s.Bytes += snap.Bytes
		if !snap.IsValid() {
			continue
		}
		s.Valid++
		if snap.Full {
			s.Full++
		}
	}
	if newest := snapshot.Newest(list, now, false); newest != nil {
		s.Newest = newest.Stamp
	}
	if newest := snapshot.Newest(list, now, true); newest != nil {
		s.NewestFull = newest.Stamp
	}
	return s
}

func (a *App) targetStatus(list []snapshot.Snapshot, now time.Time) ([]TargetStatus, error) {
	statuses := []TargetStatus{}
	holders, err := a.OffsiteHolders()
	if err != nil {
		return statuses, err
	}
	for _, t := range a.Config.Offsite {
		s := TargetStatus{Name: t.Name, Type: t.Type}
		for stamp, names := range holders {
			for _, name := range names {
				if name == t.Name {
					s.Snapshots++
					if !stamp.Time().After(now) {
						s.Newest = max(s.Newest, stamp)
					}
				}
			}
		}
		for _, snap := range list {
			if snap.Counts(now) && snap.Stamp > s.Newest {
				s.Behind++
			}
		}
		statuses = append(statuses, s)
	}
	return statuses, nil
}
