package app

import (
	"context"
	"errors"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Taken is the document of `backup`: AtoCore's own keys, so that scripts that
// read backup_root keep working, and what is ours.
type Taken struct {
	*snapshot.Metadata
	Stamp      snapshot.Stamp      `json:"stamp"`
	Kind       snapshot.Kind       `json:"kind"`
	Full       bool                `json:"full"`
	Path       string              `json:"path"`
	Bytes      int64               `json:"bytes"`
	Validation snapshot.Validation `json:"validation"`
	DurationMS int64               `json:"duration_ms"`
}

// Backup takes one snapshot.
func (a *App) Backup(ctx context.Context, kind snapshot.Kind, full bool, slot time.Time) (Taken, error) {
	return a.backup(ctx, a.takeOptions(kind, full), slot, a.Options.LockTimeout)
}

// BackupWithNote takes one snapshot for a person who says what it is for.
func (a *App) BackupWithNote(ctx context.Context, kind snapshot.Kind, full bool, note string) (Taken, error) {
	o := a.takeOptions(kind, full)
	o.Note = note
	return a.backup(ctx, o, time.Time{}, a.Options.LockTimeout)
}

// BackupNow takes one snapshot for a person who does not wait for a lock.
func (a *App) BackupNow(ctx context.Context, kind snapshot.Kind, full bool) (Taken, error) {
	return a.backup(ctx, a.takeOptions(kind, full), time.Time{}, 0)
}

func (a *App) backup(
	ctx context.Context, o snapshot.TakeOptions, slot time.Time, lockTimeout time.Duration,
) (taken Taken, err error) {
	start := time.Now()
	leg := health.LegSnapshot
	if o.Full {
		leg = health.LegFull
	}
	err = a.runJob(ctx, "backup", leg, history.Run{Kind: string(o.Kind), Slot: slot}, func(run *jobRun) error {
		lock, err := a.lockWithin(ctx, "taking a "+string(o.Kind)+" snapshot", lockTimeout)
		if err != nil {
			return err
		}
		defer lock.Unlock()
		if err := a.CheckNoPendingRestore(); err != nil {
			return err
		}
		run.begun()
		snap, err := a.take(ctx, o)
		if failure.KindOf(err) == failure.Invalid {
			err = errors.Join(err, a.sweepQuarantine(time.Now()))
		}
		if err != nil {
			return err
		}
		run.Stamp, run.Bytes = string(snap.Stamp), snap.Bytes
		taken, err = describeTaken(snap)
		return err
	})
	taken.DurationMS = time.Since(start).Milliseconds()
	return taken, err
}

// takeOptions are those of the configuration.
func (a *App) takeOptions(kind snapshot.Kind, full bool) snapshot.TakeOptions {
	c := a.Config.Backup
	method := c.ChromaMethod
	if method == chroma.MethodAPI {
		method = c.ChromaFallback // of what AtoCore does not make itself
	}
	return snapshot.TakeOptions{
		Kind: kind, Full: full, Host: a.Options.Host, ToolVersion: a.Options.Version,
		MinFree: c.MinFree.Bytes(), Share: snapshot.Share(c.Share),
		Chroma: chroma.Options{
			Method:          method,
			OptimisticTries: c.ChromaOptimisticTries,
			LockDeadline:    c.ChromaLockDeadline.Std(),
			Freeze: chroma.Freeze{
				Command:  c.FreezeCommand,
				Thaw:     c.ThawCommand,
				Deadline: c.FreezeDeadline.Std(),
				Marker:   a.FreezeMarker(),
			},
		},
		Owners:   a.Owners(),
		Progress: a.progressOf("backup"),
	}
}

// take takes a snapshot under the main lock, after sweeping what a crash left
// behind.
func (a *App) take(ctx context.Context, o snapshot.TakeOptions) (snapshot.Snapshot, error) {
	a.Sweep()
	taken, err := a.takeBy(ctx, o)
	if err == nil {
		a.shareWithAtoCore(taken)
	}
	return taken, err
}

// takeBy takes by the configured method.
func (a *App) takeBy(ctx context.Context, o snapshot.TakeOptions) (snapshot.Snapshot, error) {
	if o.Full && a.Config.Backup.ChromaMethod == chroma.MethodAPI {
		return a.takeByAPI(ctx, o)
	}
	return a.store.Take(ctx, a.sources(), o)
}

func describeTaken(snap snapshot.Snapshot) (Taken, error) {
	metadata, err := snapshot.ReadMetadata(snap.Path)
	if err != nil {
		return Taken{}, err
	}
	return Taken{
		Metadata: metadata, Stamp: snap.Stamp, Kind: snap.Kind, Full: snap.Full, Path: snap.Path,
		Bytes: snap.Bytes, Validation: snap.Manifest.Validation,
	}, nil
}
