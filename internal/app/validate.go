package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// Validate re-reads one snapshot and remembers the judgement. A snapshot that
// does not exist is a Result too.
func (a *App) Validate(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
	lock, err := a.store.LockShared(stamp)
	if err != nil && failure.KindOf(err) != failure.NotFound {
		return snapshot.Result{}, err
	}
	defer lock.Unlock()
	return a.validateAndRecord(ctx, stamp, a.validateOptions(stamp), a.store.Validate)
}

// validateAndRecord runs one validation with the configuration's wishes and remembers it.
func (a *App) validateAndRecord(ctx context.Context, stamp snapshot.Stamp, o snapshot.ValidateOptions,
	validate func(context.Context, snapshot.Stamp, snapshot.ValidateOptions) (snapshot.Result, error)) (snapshot.Result,
	error) {
	start := time.Now()
	result, err := validate(ctx, stamp, o)
	if err != nil || !result.Exists {
		return result, err
	}
	v := history.Validation{Stamp: string(stamp), CheckedAt: start, Valid: result.Valid, Errors: result.Errors,
		Duration: time.Since(start)}
	if !a.Options.ReadOnly {
		a.NoteHistoryError(a.history.PutValidation(ctx, v))
		if valid, known := a.bornValid(stamp); known && (valid || result.Valid) {
			a.noteValidation(ctx, stamp, result.Valid, result.Errors, "validate")
		}
		a.noteSharing(ctx, stamp, nil, result.Damaged())
		if result.Valid {
			a.checkSharing(ctx, stamp)
		}
	}
	return result, nil
}

// confirmDamage reads a snapshot of this machine again after work on it failed
// because of what is in it, so that damage which anybody stumbles over is known to
// everybody. A drill also fails for questions whose answer was no; that is none.
func (a *App) confirmDamage(ctx context.Context, stamp snapshot.Stamp, err error) {
	if failure.KindOf(err) != failure.Invalid || ctx.Err() != nil {
		return
	}
	if _, err := a.validateAndRecord(ctx, stamp, a.validateOptions(stamp), a.store.Validate); err != nil {
		a.Options.Log.Error("a snapshot that may be damaged could not be read again", "stamp", stamp, "error", err)
	}
}

// confirmRead is confirmDamage for a command that only looks: what it stumbled over is
// written down by an installation that is opened once more, where this process may.
func (a *App) confirmRead(ctx context.Context, stamp snapshot.Stamp, err error) {
	if failure.KindOf(err) != failure.Invalid || ctx.Err() != nil {
		return
	}
	options := a.Options
	options.ReadOnly = false
	writing, openErr := Open(ctx, a.Config, options)
	if openErr != nil {
		a.Options.Log.Error("that a snapshot may be damaged could not be written down", "stamp", stamp, "error", openErr)
		return
	}
	defer writing.Close()
	writing.confirmDamage(ctx, stamp, err)
}

// confirmRotten reads the snapshots again that share a file which a push found rotten.
func (a *App) confirmRotten(ctx context.Context, baseDir string, files []offsite.BaseFile) {
	var list []snapshot.Snapshot
	if len(files) > 0 {
		list, _, _ = a.store.List(time.Now()) // what is wrong with it is told by whoever looks
	}
	for _, f := range files {
		path := f.In(baseDir)
		a.Options.Log.Warn("a file that is kept for pushes is no longer what it was; its pages are sent anew",
			"path", path)
		rotten, err := os.Lstat(path)
		for _, s := range list {
			held, heldErr := os.Lstat(filepath.Join(s.Path, filepath.FromSlash(f.Path)))
			if err == nil && heldErr == nil && os.SameFile(rotten, held) {
				a.confirmDamage(ctx, s.Stamp, &failure.Error{Op: "sync", Subject: path, Kind: failure.Invalid,
					Err: errors.New("it is rotten")})
			}
		}
	}
}

// bornValid reports whether a snapshot was valid when it was taken, or made by
// AtoCore, whose word is not known. One that was taken invalid is no damage.
func (a *App) bornValid(stamp snapshot.Stamp) (valid, known bool) {
	s, err := a.store.Get(stamp)
	if failure.KindOf(err) == failure.NotFound {
		return false, false
	}
	return s.Manifest == nil || s.Manifest.Validation.Valid, true
}

func (a *App) validateOptions(stamp snapshot.Stamp) snapshot.ValidateOptions {
	return snapshot.ValidateOptions{
		RequiredTables: a.Config.AtoCore.RequiredTables,
		Described:      a.described(stamp),
		Progress:       fsx.Progress(a.progress).Prefix(string(stamp)),
	}
}

// adoptOptions says what an adopted snapshot's manifest records.
func (a *App) adoptOptions(o snapshot.ValidateOptions) snapshot.AdoptOptions {
	return snapshot.AdoptOptions{
		Host: a.Options.Host, ToolVersion: a.Options.Version, Sources: a.sources(), Validate: o,
		MinFree: a.Config.Backup.MinFree.Bytes(), Share: snapshot.Share(a.Config.Backup.Share), Owners: a.Owners(),
	}
}

// validateAgain is how long a bad snapshot without a manifest is left alone.
const validateAgain = 20 * time.Hour

// needsValidation reports whether a snapshot was never validated, or is good and can
// be adopted, or may have been healed by hand.
func needsValidation(s *snapshot.Snapshot, now time.Time) bool {
	switch {
	case s.Valid == nil:
		return true
	case s.Manifest != nil:
		return false
	case *s.Valid:
		return unix.Faccessat(unix.AT_FDCWD, s.Path, unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil
	}
	return now.Sub(s.Checked) >= validateAgain
}

// validateUnseen validates the snapshots that nobody ever validated and adopts the
// good ones. The caller holds the main lock.
func (a *App) validateUnseen(ctx context.Context, list []snapshot.Snapshot, now time.Time) error {
	known, err := a.origins()
	if err != nil {
		return err
	}
	for i := range list {
		s := &list[i]
		if _, adopted := known[s.Stamp]; !needsValidation(s, now) || s.Foreign && adopted {
			continue
		}
		result, err := a.validateAndRecord(ctx, s.Stamp, a.validateOptions(s.Stamp),
			func(ctx context.Context, stamp snapshot.Stamp, o snapshot.ValidateOptions) (snapshot.Result, error) {
				_, result, err := a.adopt(ctx, s, o)
				if err != nil && result.Valid && ctx.Err() == nil {
					// It is good, and only its manifest could not be written.
					a.Options.Log.Warn("a snapshot made by AtoCore could not be adopted", "stamp", stamp, "error", err)
					err = nil
				}
				return result, err
			})
		if err != nil {
			return err
		}
		a.applyResult(ctx, s, result)
	}
	return nil
}

// applyResult puts a judgement that was just made into the catalog's entry.
func (a *App) applyResult(ctx context.Context, s *snapshot.Snapshot, result snapshot.Result) {
	s.Valid, s.Errors, s.Checked = &result.Valid, result.Errors, time.Now()
	if v, ok, err := a.history.Validation(ctx, string(s.Stamp)); err == nil && ok {
		s.InvalidSince = v.FailedSince
	}
}
