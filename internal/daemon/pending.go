package daemon

import "github.com/atocore/atobackupd/restore"

// refusePending refuses work while an interrupted restore waits for a decision:
// a snapshot of a store that is half old and half new would be worse than none.
func (a *App) refusePending() error { return restore.RefusePending(a.Config.Backup.Dir) }

// sweep undoes what interrupted runs left: an application that is still frozen,
// subvolume snapshots, and what lies in staging/. The caller holds the main
// lock. While a restore is unfinished nothing is removed: what it fetched from a
// vault lies there, and finishing it needs that. What cannot be removed, such as
// another user's directory, is told and stays: it must not keep snapshots from
// being taken.
func (a *App) sweep() {
	a.thawLeftover()
	if a.refusePending() != nil {
		return
	}
	swept, err := a.store.SweepBeside(a.Config.AtoCore.ChromaPath)
	for _, name := range swept {
		a.Options.Log.Warn("removed what an interrupted run left in staging", "name", name)
	}
	if err != nil {
		a.Options.Log.Warn("what an interrupted run left could not be removed: remove it as root", "error", err)
	}
}
