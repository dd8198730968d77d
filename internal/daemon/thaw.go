package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

const (
	thawJob   = "thaw"
	thawEvery = 2 * time.Minute
)

// freezeMarker is the file that stands while the application is frozen.
func (a *App) freezeMarker() string { return filepath.Join(a.Config.StateDir, "frozen.json") }

// thawLeftover sets an application going again that a run left frozen which is
// no more. The caller holds the main lock: no freeze is under way.
func (a *App) thawLeftover() {
	switch thawed, err := chroma.ThawLeftover(a.freezeMarker()); {
	case err != nil: // it may well run: no reason to take no snapshot
		a.Options.Log.Error("an interrupted run froze the application, and it could not be thawed", "error", err)
	case thawed:
		a.Options.Log.Warn("thawed the application, which an interrupted run had left frozen")
	}
}

// thawJobs gives the job that looks for an application that a command left
// frozen when it was killed: the daemon's next start or take may be a day away.
func (a *App) thawJobs() []scheduler.Job {
	const freeze = "freeze"
	if b := a.Config.Backup; b.ChromaMethod != freeze && (b.ChromaMethod != methodAPI || b.ChromaFallback != freeze) {
		return nil
	}
	return []scheduler.Job{{
		Name: thawJob, Cron: scheduler.Every(thawEvery), NoCatchUp: true, Timeout: takeTimeout,
		Run: func(ctx context.Context, _ scheduler.Slot) error {
			if _, err := os.Lstat(a.freezeMarker()); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			lock, err := a.store.Lock(ctx, "thawing the application", 0, nil)
			if failure.KindOf(err) == failure.Locked {
				return nil // it is frozen by somebody who is at work
			}
			if err != nil {
				return err
			}
			defer lock.Unlock()
			a.thawLeftover()
			return nil
		},
	}}
}
