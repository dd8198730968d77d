package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// What AtoCore adds to the backups belongs to AtoCore, and counts for nothing
// before it was copied into a snapshot of ours. Which was copied into which is kept
// in the state directory, where only this program can say so.

// origins names the snapshot that each foreign one was copied into.
type origins map[snapshot.Stamp]snapshot.Stamp

func (a *App) originsFile() string { return filepath.Join(a.Config.StateDir, "adopted.json") }

func (a *App) origins() (origins, error) {
	known := origins{}
	data, err := fsx.ReadRegular(a.originsFile(), mostDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &known)
	}
	if err != nil {
		return nil, &failure.Error{Op: "adopt", Subject: a.originsFile(),
			Err:  fmt.Errorf("which snapshots of AtoCore were copied cannot be read: %w", err),
			Hint: "move it away: those that are still there are copied once more"}
	}
	return known, nil
}

// recordOrigin notes that a foreign snapshot was copied, and forgets those that
// are gone.
func (a *App) recordOrigin(from, to snapshot.Stamp) error {
	known, err := a.origins()
	if err != nil {
		a.Options.Log.Warn("which snapshots were adopted cannot be read", "error", err)
		known = origins{}
	}
	for foreign := range known {
		if isGone(a.store.Path(foreign)) {
			delete(known, foreign)
		}
	}
	known[from] = to
	data, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return fsx.WriteFile(a.originsFile(), append(data, '\n'), 0o600)
}

// adopt makes a snapshot that AtoCore's own tools made one of ours, and returns
// what it is called then: a foreign one is copied, once, and any other is given our
// manifest where it lies. The caller holds the main lock.
func (a *App) adopt(
	ctx context.Context, s *snapshot.Snapshot, o snapshot.ValidateOptions,
) (snapshot.Stamp, snapshot.Result, error) {
	if !s.Foreign {
		result, err := a.store.Adopt(ctx, s.Stamp, a.adoptOptions(o))
		return s.Stamp, result, err
	}
	known, err := a.origins()
	if err != nil {
		return "", snapshot.Result{}, err
	}
	if as, ok := known[s.Stamp]; ok {
		result, err := a.store.Validate(ctx, as, o)
		return as, result, err
	}
	copied, err := a.store.AdoptForeign(ctx, s.Stamp, a.adoptOptions(o))
	result := snapshot.Result{Stamp: string(s.Stamp), Path: s.Path, Exists: true,
		Errors: []string{}, Warnings: []string{}, Checked: []string{}}
	switch kind := failure.KindOf(err); {
	case err == nil:
	case ctx.Err() != nil || kind == failure.NoSpace || kind == failure.Interrupted:
		return "", result, err
	default: // whatever it is, it is AtoCore's to mend, and stops nothing of ours
		result.Errors = []string{err.Error()}
		return "", result, nil
	}
	v := copied.Manifest.Validation
	result.Valid, result.Errors, result.Warnings, result.DurationMS = v.Valid, v.Errors, v.Warnings, v.DurationMS
	result.Checked = []string{"copy"}
	a.Options.Log.Info("adopted a snapshot of AtoCore's by a copy", "stamp", s.Stamp, "as", copied.Stamp)
	a.notice(fmt.Sprintf("%s is AtoCore's own: its content was copied into %s", s.Stamp, copied.Stamp))
	return copied.Stamp, result, a.recordOrigin(s.Stamp, copied.Stamp)
}
