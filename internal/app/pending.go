package app

import (
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// CheckNoPendingRestore refuses work while an interrupted restore waits for a decision:
// a snapshot of a store that is half old and half new would be worse than none.
func (a *App) CheckNoPendingRestore() error {
	return restore.Place{StateDir: a.Config.StateDir, BackupDir: a.Config.Backup.Dir}.RefusePending()
}

// tempsKept is how long a temporary is left alone: longer than anybody writes one.
const tempsKept = time.Hour

// Sweep undoes what interrupted runs left: an application that is still frozen,
// subvolume snapshots, what lies in staging/, and documents that were not finished. The
// caller holds the main lock. While a restore is unfinished nothing is removed: what it fetched from a
// vault lies there, and finishing it needs that. What cannot be removed, such as
// another user's directory, is told and stays: it must not keep snapshots from
// being taken.
func (a *App) Sweep() {
	a.ThawLeftover()
	if a.CheckNoPendingRestore() != nil {
		return
	}
	swept, foreign, err := a.store.SweepBeside(a.Config.AtoCore.ChromaPath)
	for _, name := range swept {
		a.Options.Log.Warn("removed what an interrupted run left in staging", "name", name)
	}
	for _, name := range foreign {
		a.Options.Log.Warn("not made by atobackupd, and left alone: it does not belong in staging",
			"path", filepath.Join(a.store.Dir(), "staging", name))
	}
	if err != nil {
		a.Options.Log.Warn("what an interrupted run left could not be removed: remove it as root", "error", err)
	}
	a.sweepTemps()
}

// sweepTemps removes the documents in the directories of this program that somebody was
// killed over while he wrote them.
func (a *App) sweepTemps() {
	dirs := []string{a.Config.StateDir, a.Config.Backup.Dir}
	for _, t := range a.Config.Offsite {
		dirs = append(dirs, offsite.StateDir(a.Config.StateDir, t.Name))
	}
	for _, dir := range dirs {
		removed, err := fsx.RemoveTemps(dir, time.Now().Add(-tempsKept))
		for _, path := range removed {
			a.Options.Log.Info("removed a document that an interrupted run had not finished", "path", path)
		}
		if err != nil {
			a.Options.Log.Warn("what an interrupted run had not finished could not be removed", "error", err)
		}
	}
}

// FreezeMarker is the file that stands while the application is frozen.
func (a *App) FreezeMarker() string { return filepath.Join(a.Config.StateDir, "frozen.json") }

// ThawLeftover sets an application going again that a run left frozen which is
// no more. The caller holds the main lock: no freeze is under way.
func (a *App) ThawLeftover() {
	switch thawed, err := chroma.ThawLeftover(a.FreezeMarker(), a.Config.Backup.ThawCommand, a.Owners()); {
	case err != nil: // it may well run: no reason to take no snapshot
		a.Options.Log.Error("an interrupted run froze the application, and it could not be thawed", "error", err)
	case thawed:
		a.Options.Log.Warn("thawed the application, which an interrupted run had left frozen")
	}
}
