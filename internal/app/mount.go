package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// markerFile says of a directory that it is the backup directory. Where the disk
// is not mounted there is none, and nothing is written onto the bare mount point.
const markerFile = ".atobackupd-dir"

// checkMount refuses a backup directory without its marker when snapshots are known to
// lie in it. Where the history does not know that a marker was ever there, as an older
// version made none, one snapshot that is there speaks for it.
func (a *App) checkMount(ctx context.Context) error {
	_, err := os.Lstat(a.markerPath())
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return a.unmounted(err)
	}
	known, err := a.knownStamps(ctx)
	if err != nil || len(known) == 0 {
		return nil
	}
	missing := fmt.Errorf("%s is missing, and snapshots such as %s are known to lie there", markerFile, known[0])
	if marked, err := a.history.BackupDir(ctx); err != nil || marked != 0 {
		return a.unmounted(missing)
	}
	for _, stamp := range known {
		if _, err := os.Lstat(filepath.Join(a.Config.Backup.Dir, "snapshots", string(stamp))); err == nil {
			return nil // an older version made them, and no marker
		}
	}
	return a.unmounted(missing)
}

func (a *App) markerPath() string { return filepath.Join(a.Config.Backup.Dir, markerFile) }

func (a *App) unmounted(err error) error {
	return &failure.Error{Op: "backup.dir", Subject: a.Config.Backup.Dir, Kind: failure.Refused, Err: err,
		Hint: "mount its disk: `mount -a`; if this is a new directory: atobackupd accept backup-dir"}
}

// knownStamps returns the snapshots that should be here, newest first: those on the
// list, or, where there is none, those that the history has seen.
func (a *App) knownStamps(ctx context.Context) ([]snapshot.Stamp, error) {
	if p, err := a.published(); err == nil && len(p.Snapshots) > 0 {
		slices.Reverse(p.Snapshots)
		return p.Snapshots, nil
	}
	runs, err := a.history.Runs(ctx, "backup", time.Time{}, 100)
	if err != nil {
		return nil, err
	}
	var known []snapshot.Stamp
	for _, run := range runs {
		if run.Outcome == history.OK && run.Stamp != "" {
			known = append(known, snapshot.Stamp(run.Stamp))
		}
	}
	return known, nil
}

// mark makes the marker, once the directory is known to be the right one.
func (a *App) mark(ctx context.Context) error {
	if _, err := os.Lstat(a.markerPath()); err != nil {
		if err := a.writeMarker(0); err != nil {
			return err
		}
	}
	if err := a.pair(ctx); err != nil { // a history that is not paired is believed, as before there were numbers
		a.Options.Log.Warn("whose history this is could not be written down", "error", err)
	}
	return nil
}

// AcceptBackupDir takes the directory as it is for the backup directory: the
// operator says that it is a new one and not the mount point of a disk.
func (a *App) AcceptBackupDir(ctx context.Context) error {
	store, err := snapshot.Open(a.Config.Backup.Dir)
	if err != nil {
		return err
	}
	store.KeepLocksIn(a.locks())
	a.store = store
	if err := a.mark(ctx); err != nil {
		return err
	}
	return a.acceptDir(ctx)
}
