package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx"
)

// The marker of the backup directory and history.db hold one number, drawn when they
// first meet. Where the two differ, what that history says of scrubs, drills and prunes
// is about other backups (it was copied from another machine, or the state_dir is that
// of another backup.dir), and proves nothing here. One that has no number takes the
// other's: that is how an upgrade comes by it, a history that was started over, and a
// directory that was accepted.

const (
	markerText = "This is a backup directory of atobackupd. Without this file it takes the disk for not mounted.\n"
	markerID   = "id: "
)

// writeMarker makes the marker, or makes it anew with a number.
func (a *App) writeMarker(id int64) error {
	text := markerText
	if id != 0 {
		text += fmt.Sprintf("%s%016x\n", markerID, id)
	}
	return fsx.WriteFile(a.markerPath(), []byte(text), 0o644)
}

// markedID returns the number in the marker; 0 where there is none.
func (a *App) markedID() (int64, error) {
	const longest = 4096
	data, err := fsx.ReadRegular(a.markerPath(), longest)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), markerID); ok {
			id, _ := strconv.ParseInt(text, 16, 64)
			return id, nil // one that is none is as good as missing
		}
	}
	return 0, nil
}

// pair sees that the marker and the history hold the same number, where one of them
// has none. The history comes first: it is what several processes agree on.
func (a *App) pair(ctx context.Context) error {
	marked, err := a.markedID()
	if err != nil || a.history.Volatile() {
		return err
	}
	noted, err := a.history.BackupDir(ctx)
	if err == nil && noted == 0 {
		id := marked
		for id == 0 {
			id = rand.Int64()
		}
		noted, err = a.history.NoteBackupDir(ctx, id)
	}
	if err == nil && marked == 0 {
		err = a.writeMarker(noted)
	}
	return err
}

// checkHistory begins a new history where the one that is open is about another backup
// directory, and keeps that one beside it. Who may only look, or is no daemon while one
// runs, changes nothing on disk, and believes nothing of it either.
func (a *App) checkHistory(ctx context.Context) {
	marked, err := a.markedID()
	if err != nil || marked == 0 {
		return // the disk is not mounted, or an older version marked it
	}
	noted, err := a.history.BackupDir(ctx)
	if err != nil || noted == 0 || noted == marked {
		a.NoteHistoryError(err)
		if !a.history.Volatile() {
			a.process.setForeign(false)
		}
		return
	}
	a.process.setForeign(true)
	if a.mayBeginAnew() {
		aside, err := a.history.BeginAnew(ctx)
		if err == nil && aside != "" {
			a.Options.Log.Warn("the history is that of another backup directory, and a new one was started",
				"kept", aside, "backup_dir", a.Config.Backup.Dir)
			a.process.forget()
			_, err = a.history.NoteBackupDir(ctx, marked)
			a.process.setForeign(false)
		}
		a.NoteHistoryError(err)
		if err == nil {
			return
		}
	}
	if err := a.history.Disregard(ctx); err != nil {
		a.NoteHistoryError(errors.Join(errors.New("it is another backup directory's"), err))
	}
}

// mayBeginAnew reports whether this process may replace the history: a command that
// has another backup.dir than the daemon must not take the daemon's away.
func (a *App) mayBeginAnew() bool {
	if a.Options.ReadOnly {
		return false
	}
	a.process.mu.Lock()
	own := a.process.life != nil
	a.process.mu.Unlock()
	if own {
		return true
	}
	locked, err := isLocked(filepath.Join(a.Config.StateDir, lifeLock))
	return err == nil && !locked
}
