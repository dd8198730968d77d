package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
)

// Drill restores a snapshot, by stamp or "latest", into a scratch directory and
// checks it there. The main lock is held meanwhile: the scratch lies in staging/,
// beside the snapshots, where there is room and where a crash's remains are
// swept. A drill that does not pass is an error of kind Invalid.
func (a *App) Drill(
	ctx context.Context, name string, slot time.Time, note string,
) (result restore.DrillResult, err error) {
	err = a.runJob(ctx, "drill", health.LegDrill, history.Run{Slot: slot}, func(run *jobRun) error {
		lock, err := a.Lock(ctx, "a restore drill")
		if err != nil {
			return err
		}
		defer lock.Unlock()
		snap, err := a.Find(ctx, name, time.Now())
		if err != nil {
			return err
		}
		hold, err := a.store.LockShared(snap.Stamp)
		if err != nil {
			return err
		}
		defer hold.Unlock()
		run.Stamp = string(snap.Stamp)
		run.begun()
		result, err = restore.Drill(ctx, restore.DrillRequest{
			Dir: snap.Path, Stamp: snap.Stamp, Scratch: filepath.Join(a.store.Dir(), "staging"),
			Queries:        a.Config.Drill.Queries,
			RequiredTables: a.Config.AtoCore.RequiredTables, Described: a.described(snap.Stamp),
			MinFree: a.Config.Backup.MinFree.Bytes(), Share: a.Config.Backup.Share != "copy",
			Progress: a.progressOf("drill"),
		})
		err = a.drilled(ctx, &run.Run, result, note, err)
		a.confirmDamage(ctx, snap.Stamp, err)
		return err
	})
	return result, err
}

// liveDrill is the kind of the run of a live drill.
const liveDrill = "live"

// LiveDrill holds the runbook's full drill against the real service: it stops
// it, restores over it, and starts it again. It is never scheduled.
func (a *App) LiveDrill(ctx context.Context, note string) (result restore.DrillResult, err error) {
	err = a.runJob(ctx, "drill", health.LegLiveDrill, history.Run{Kind: liveDrill}, func(run *jobRun) error {
		if a.Config.AtoCore.APIURL == "" {
			return &failure.Error{Op: "drill --live", Kind: failure.Config,
				Err: errors.New("atocore.api_url is not set"), Hint: "set it, e.g. http://127.0.0.1:8100"}
		}
		lock, err := a.Lock(ctx, "a live drill")
		if err != nil {
			return err
		}
		defer lock.Unlock()
		request, err := a.newRestoreRequest(RestoreRequest{ManageService: true})
		if err != nil {
			return err
		}
		run.begun()
		take := a.takeOptions(snapshot.Manual, a.Config.AtoCore.ChromaPath != "")
		result, err = restore.LiveDrill(ctx, restore.LiveDrillRequest{Restore: request, Snapshot: take,
			APIURL: a.Config.AtoCore.APIURL})
		run.Stamp = result.Stamp
		return a.drilled(ctx, &run.Run, result, note, err)
	})
	return result, err
}

// drilled records a drill that was held and turns one that did not pass into an
// error.
func (a *App) drilled(
	ctx context.Context, run *history.Run, result restore.DrillResult, note string, err error,
) error {
	run.Detail, _ = json.Marshal(health.RunDetail{Note: note, PreRestore: result.PreRestoreSnapshot})
	if err != nil {
		return err
	}
	run.Bytes = result.Bytes
	_, recordErr := a.history.AddDrill(context.WithoutCancel(ctx), history.Drill{
		Stamp: result.Stamp, Source: "local", StartedAt: run.StartedAt,
		Duration:   time.Duration(result.DurationMS) * time.Millisecond,
		PreRestore: result.PreRestoreSnapshot, Note: note,
		Pass: result.Passed, Surprises: append(append([]string{}, result.Errors...), result.Surprises...),
	})
	a.NoteHistoryError(recordErr)
	return drillFailure(result)
}

// drillFailure turns a drill that did not pass into an error.
func drillFailure(result restore.DrillResult) error {
	if result.Passed {
		return nil
	}
	return &failure.Error{Op: "drill", Subject: result.Stamp, Kind: failure.Invalid,
		Err:  fmt.Errorf("it did not pass: %s", strings.Join(result.Errors, "; ")),
		Hint: "this snapshot would not restore: validate it, and drill another one"}
}
