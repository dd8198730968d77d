package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

const (
	thawJob   = "thaw"
	thawEvery = 2 * time.Minute
)

// thawJobs returns the job that looks for an application that a command left
// frozen when it was killed: the daemon's next start or take may be a day away.
func thawJobs(a *app.App) []scheduler.Job {
	b, freeze := a.Config.Backup, chroma.MethodFreeze
	if b.ChromaMethod != freeze && (b.ChromaMethod != chroma.MethodAPI || b.ChromaFallback != freeze) {
		return nil
	}
	return []scheduler.Job{{
		Name: thawJob, Cron: scheduler.Every(thawEvery), NoCatchUp: true, Timeout: takeTimeout,
		Run: func(ctx context.Context, _ scheduler.Slot) error {
			if _, err := os.Lstat(a.FreezeMarker()); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			lock, err := a.LockNow(ctx, "thawing the application")
			if failure.KindOf(err) == failure.Locked {
				return nil // it is frozen by somebody who is at work
			}
			if err != nil {
				return err
			}
			defer lock.Unlock()
			a.ThawLeftover()
			return nil
		},
	}}
}
