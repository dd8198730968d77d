// Package app holds the jobs that the daemon and the commands share: take, sync,
// prune, verify, scrub, drill, restore, and the facts that health judges by.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot"
)

// Options is what the caller of the job functions brings along.
type Options struct {
	Version     string
	Host        string // "" asks the kernel
	LockTimeout time.Duration
	Log         *slog.Logger
	// Notice says one line to the person who waits, such as whom a lock is
	// waited for. nil says nothing.
	Notice func(string)
	// Progress tells how far a long piece of work is: done of total bytes, or
	// zero for both where only the step is known. It may be called from several
	// goroutines. nil tells nobody.
	Progress fsx.Progress
	// Daemon says that this is the daemon, whose runs are by the schedule.
	Daemon bool
	// Passphrase asks a person for the passphrase of a secret key. nil means that
	// nobody can be asked.
	Passphrase func() ([]byte, error)
	// ReadOnly opens for looking only: nothing is made or changed on disk.
	ReadOnly bool
	// TrustBackupDir goes on although somebody else can write where the backups
	// lie.
	TrustBackupDir bool
	// TargetSilence is how long a target may be silent while it is waited for; zero for
	// the two minutes that packages sftp and s3 allow.
	TargetSilence time.Duration
	// EndsRestore says that the command ends an interrupted restore, so that
	// nobody has to be told of it.
	EndsRestore bool
}

// App is an open installation: its configuration, its snapshots, its history.
type App struct {
	Config  *config.Config
	Options Options

	store    *snapshot.Store
	history  *history.DB
	unread   error // why the history that is there could not be opened
	location *time.Location
	process  *process
	closers  []func() error
}

// Open opens what the configuration names. The caller closes it.
func Open(ctx context.Context, cfg *config.Config, o Options) (app *App, err error) {
	a := &App{Config: cfg, Options: o, process: newProcess()}
	if a.Options.Log == nil {
		a.Options.Log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if a.Options.Host == "" {
		if a.Options.Host, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	if a.location, err = time.LoadLocation(cfg.Schedule.Timezone); err != nil {
		return nil, &failure.Error{Op: "config", Subject: "schedule.timezone", Kind: failure.Config, Err: err}
	}
	if !o.ReadOnly {
		if err := a.requirePrivate(); err != nil {
			return nil, err
		}
		a.closers = append(a.closers, a.chownCreatedFiles) // comes last
	}
	if err := a.openHistory(ctx); err != nil {
		return nil, err
	}
	if err := a.openStore(ctx); err != nil {
		return nil, err
	}
	if !o.ReadOnly && !o.Daemon {
		a.beatFromCommand()
	}
	if pending := a.CheckNoPendingRestore(); pending != nil && !a.Options.EndsRestore {
		a.notice(pending.Error())
	}
	return a, nil
}

// openStore opens the backup directory. Where its disk is not mounted nothing is
// made: status and the daemon go on and say so, and jobs refuse. One that is no good
// keeps the daemon from starting; a command's job fails by it, which is recorded.
func (a *App) openStore(ctx context.Context) (err error) {
	if a.store, err = snapshot.OpenExisting(a.Config.Backup.Dir); err != nil {
		return err
	}
	a.store.KeepLocksIn(a.locks())
	a.checkHistory(ctx)
	if a.Options.ReadOnly || a.checkMount(ctx) != nil {
		return nil
	}
	if err := a.store.Prepare(); err != nil {
		if a.Options.Daemon {
			return err
		}
		return nil
	}
	if err := a.mark(ctx); err != nil {
		return err
	}
	a.notePublished(ctx)
	return a.noteLostHistory(ctx)
}

// locks is where the lock files of snapshots lie: where AtoCore's group, which may
// read snapshots, cannot open them.
func (a *App) locks() string { return filepath.Join(a.Config.StateDir, "locks") }

// noteLostHistory records that what was remembered is lost, when the history is
// new and there are snapshots of ours.
func (a *App) noteLostHistory(ctx context.Context) error {
	empty, err := a.history.Empty(ctx)
	if err != nil || !empty {
		return err
	}
	list, _, err := a.store.List(time.Now())
	if err != nil {
		return nil // the look that follows tells
	}
	if hasOurs(list) {
		a.NoteHistoryError(a.history.NoteStartedOver(ctx, time.Now()))
	}
	return nil
}

// hasOurs reports whether there is a snapshot that this program has made.
func hasOurs(list []snapshot.Snapshot) bool {
	return slices.ContainsFunc(list, func(s snapshot.Snapshot) bool { return s.Manifest != nil })
}

// WithConfig returns an App for another configuration that shares the store, the
// history and the memory of this process. It closes nothing: that stays with the
// App that was opened.
func (a *App) WithConfig(cfg *config.Config) (*App, error) {
	location, err := time.LoadLocation(cfg.Schedule.Timezone)
	if err != nil {
		return nil, &failure.Error{Op: "config", Subject: "schedule.timezone", Kind: failure.Config, Err: err}
	}
	return &App{Config: cfg, Options: a.Options, store: a.store, history: a.history, unread: a.unread,
		location: location, process: a.process}, nil
}

// openHistory opens the history in the best way that is possible: backups do
// not depend on it.
func (a *App) openHistory(ctx context.Context) error {
	path := a.historyPath()
	var err error
	if !a.Options.ReadOnly {
		if a.history, err = history.Open(ctx, path); err == nil {
			if aside := a.history.MovedAside(); aside != "" {
				a.Options.Log.Warn("the history was damaged and a new one was started", "damaged", aside)
			}
		}
	}
	if a.history == nil && ctx.Err() != nil {
		return ctx.Err() // it was interrupted, and says nothing about the history
	}
	if a.history == nil {
		readErr := err
		if a.history, err = history.OpenReadOnly(ctx, path); err != nil {
			if readErr != nil {
				a.Options.Log.Warn("what happens now is not remembered: the history cannot be opened", "error", readErr)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				a.unread = err
			}
			if readErr == nil && a.unread != nil {
				a.Options.Log.Warn("the history cannot be read", "error", err)
			}
			if a.history, err = history.Volatile(ctx); err != nil {
				return err
			}
		}
	}
	a.closers = append(a.closers, a.history.Close)
	return nil
}

// Close lets go of everything, last opened first.
func (a *App) Close() error {
	var errs []error
	for len(a.closers) > 0 {
		last := len(a.closers) - 1
		errs = append(errs, a.closers[last]())
		a.closers = a.closers[:last]
	}
	return errors.Join(errs...)
}

// Store returns the local snapshots.
func (a *App) Store() *snapshot.Store { return a.store }

// History returns the record of what happened.
func (a *App) History() *history.DB { return a.history }

// Location returns the time zone of the schedule.
func (a *App) Location() *time.Location { return a.location }

// LockNow takes the main lock without waiting.
func (a *App) LockNow(ctx context.Context, purpose string) (*fsx.Lock, error) {
	return a.lockWithin(ctx, purpose, 0)
}

// Lock takes the main lock for a job that changes snapshots or live data.
func (a *App) Lock(ctx context.Context, purpose string) (*fsx.Lock, error) {
	return a.lockWithin(ctx, purpose, a.Options.LockTimeout)
}

func (a *App) lockWithin(ctx context.Context, purpose string, timeout time.Duration) (*fsx.Lock, error) {
	if err := a.checkMount(ctx); err != nil {
		return nil, err // not even a lock file is made on a bare mount point
	}
	if err := a.store.Prepare(); err != nil {
		return nil, err
	}
	return a.store.Lock(ctx, purpose, timeout, func(holder string) {
		a.notice("waiting for " + holder + ", which holds the lock")
	})
}

func (a *App) notice(line string) {
	if a.Options.Notice != nil {
		a.Options.Notice(line)
	}
}

func (a *App) progress(step string, done, total int64) {
	a.Options.Progress.Tell(step, done, total)
}

// sources returns the live artifacts as configured.
func (a *App) sources() snapshot.Sources {
	c := a.Config.AtoCore
	return snapshot.Sources{DB: c.DBPath, Registry: c.RegistryPath, Chroma: c.ChromaPath,
		RequiredTables: c.RequiredTables}
}

// Policy returns what a retention of the configuration means here: in the time
// zone of the schedule, with weeks that start when the weekly job runs.
func (a *App) Policy(r config.Retention) retention.Policy {
	return policyOf(r, a.location, a.Config.Schedule.Weekly)
}

func policyOf(r config.Retention, zone *time.Location, weekly string) retention.Policy {
	days := func(n int) time.Duration { return time.Duration(n) * retention.Day }
	return retention.Policy{
		Daily: r.Daily, Weekly: r.Weekly, Monthly: r.Monthly, KeepWithin: r.KeepWithin.Std(),
		PreRestore: days(r.PreRestoreDays), Suspect: days(r.SuspectDays), Invalid: days(r.InvalidDays),
		MaxDeleteFraction: r.MaxDeleteFraction, Location: zone, WeekStart: weekStart(weekly),
	}
}

// weekStart returns the weekday that an expression names alone, else Sunday.
func weekStart(weekly string) time.Weekday {
	cron, err := scheduler.Parse(weekly, time.UTC)
	if err != nil {
		return time.Sunday
	}
	day, _ := cron.Weekday()
	return day
}

// Signer returns the key that signs what this machine ships, and makes it where
// no vault is pinned yet. A key that was lost while one is pinned is never
// replaced silently: every snapshot there would look like a forgery.
func (a *App) Signer() (*crypt.Signer, error) {
	s, err := a.loadSigner()
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := a.SignerLost(); err != nil {
		return nil, err
	}
	return a.makeSigner()
}

// SignerLost returns an error where the signing key is gone although a vault is
// pinned to it.
func (a *App) SignerLost() error {
	if _, err := os.Lstat(a.signerPath()); !errors.Is(err, fs.ErrNotExist) {
		return nil // what else may be wrong with it, loading says
	}
	for _, t := range a.Config.Offsite {
		state, err := offsite.LoadState(a.Config.StateDir, t.Name)
		if err != nil {
			return err
		}
		if state.VaultID != "" {
			return a.signerLost(t.Name, state)
		}
	}
	return nil
}

func (a *App) signerPath() string { return filepath.Join(a.Config.StateDir, "signing_key") }

// loadSigner returns the signing key, fs.ErrNotExist where there is none.
func (a *App) loadSigner() (*crypt.Signer, error) { return crypt.LoadSigner(a.signerPath()) }

// signerLost says that the key which a vault is pinned to is gone.
func (a *App) signerLost(target string, state *offsite.State) error {
	pinned := "vault " + state.VaultID
	if state.Signer != "" {
		pinned += " of the signer " + state.Signer
	}
	return &failure.Error{Op: "signing key", Subject: a.signerPath(), Kind: failure.Config,
		Err: fmt.Errorf("it is lost, and the target %s is pinned to %s", target, pinned),
		Hint: "put it back (the vault's host document has it: atobackupd bootstrap); to read, use --signer; " +
			"to go on with a new key: atobackupd vault init --target " + target +
			", and vault signer add on the second machine"}
}

// makeSigner makes the signing key.
func (a *App) makeSigner() (*crypt.Signer, error) {
	if err := fsx.MkdirAll(a.Config.StateDir, 0o700); err != nil {
		return nil, &failure.Error{Op: "state_dir", Subject: a.Config.StateDir, Kind: failure.Config, Err: err,
			Hint: "make it, owned by the user that atobackupd runs as"}
	}
	s, created, err := crypt.LoadOrCreateSigner(a.signerPath())
	if created {
		a.notice("made the signing key " + a.signerPath() + "; its public half belongs on the recovery sheet: " +
			s.AuthorizedKey())
	}
	return s, err
}
