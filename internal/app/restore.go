package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
)

// RestoreRequest is what an operator asks for.
type RestoreRequest struct {
	Name     string // a stamp or "latest"
	From     string // a target to fetch it from; "" for a snapshot of this machine
	Identity string // the secret key file that opens it, with From
	Signer   string // who must have signed it, with From, where this machine does not know

	restore.Options // what the operator answered

	ManageService bool // stop and start the service around it
	DryRun        bool // say what it would do, and touch nothing
}

// Restore puts a snapshot back, or with DryRun says what that would do: the
// plan is nil otherwise.
func (a *App) Restore(ctx context.Context, r RestoreRequest) (result restore.Result, plan *restore.Plan, err error) {
	result = restore.Result{Stamp: r.Name, Source: sourceName(r.From), Warnings: []string{}, Errors: []string{}}
	lock, err := a.Lock(ctx, "restoring "+r.Name)
	if err != nil {
		return result, nil, err
	}
	defer lock.Unlock()
	request, err := a.newRestoreRequest(r)
	if err != nil {
		return result, nil, err
	}
	cleanUp, err := a.findForRestore(ctx, r, &request)
	if err != nil {
		return result, nil, err
	}
	defer cleanUp()
	if r.DryRun {
		plan, err = restore.NewPlan(ctx, request)
		if err == nil {
			defer plan.Close()
			err = plan.Err()
		}
		return result, plan, err
	}
	err = a.runJob(ctx, "restore", "restore", history.Run{Stamp: string(request.Stamp)},
		func(run *jobRun) (err error) {
			result, err = restore.Run(ctx, request)
			if request.Dir == "" {
				a.confirmDamage(ctx, request.Stamp, err)
			}
			return err
		})
	return result, nil, err
}

func sourceName(from string) string {
	if from == "" {
		return "local"
	}
	return from
}

// newRestoreRequest fills in what the operator and the configuration say; which
// snapshot is meant comes later.
func (a *App) newRestoreRequest(r RestoreRequest) (request restore.Request, err error) {
	c := a.Config
	r.TrustBackupDir = a.Options.TrustBackupDir
	request = restore.Request{
		Options: r.Options, Store: a.store, StateDir: c.StateDir, Source: sourceName(r.From), Host: a.Options.Host,
		Live:           a.live(),
		RequiredTables: c.AtoCore.RequiredTables, HealthURL: c.AtoCore.HealthURL, Share: c.Backup.Share != "copy",
		Progress: a.progressOf("restore"), PreSnapshot: a.preSnapshot(),
	}
	if r.ManageService {
		request.Service, err = a.service()
	}
	return request, err
}

// preSnapshot says how what was live before a restore is saved.
func (a *App) preSnapshot() snapshot.TakeOptions {
	c := a.Config.Backup
	return snapshot.TakeOptions{Host: a.Options.Host, ToolVersion: a.Options.Version, MinFree: c.MinFree.Bytes(),
		Share: snapshot.Share(c.Share)}
}

// findForRestore finds the snapshot, and fetches it where it lies off-site:
// cleanUp removes what was fetched.
func (a *App) findForRestore(ctx context.Context, r RestoreRequest,
	request *restore.Request) (cleanUp func(), err error) {
	if r.From != "" {
		return a.fetchForRestore(ctx, r, request)
	}
	s, err := a.Find(ctx, r.Name, time.Now())
	if known, ok := errors.AsType[*failure.Error](err); ok && known.Kind == failure.NotFound {
		err = &failure.Error{Op: "restore refused", Subject: r.Name, Kind: failure.Invalid, Err: known.Err,
			Hint: known.Hint}
	}
	if stamp, parseErr := snapshot.ParseStamp(r.Name); err != nil && parseErr == nil &&
		failure.KindOf(err) != failure.Invalid {
		// Its manifest cannot be read: the restore validates it, and says so.
		s.Stamp, err = stamp, nil
	}
	request.Stamp, request.Described = s.Stamp, a.described(s.Stamp)
	return func() {}, err
}

// fetchForRestore brings a snapshot from a target's vault into staging/, where
// the main lock protects it.
func (a *App) fetchForRestore(ctx context.Context, r RestoreRequest,
	request *restore.Request) (cleanUp func(), err error) {
	if r.Identity == "" {
		return nil, &failure.Error{Op: "restore", Subject: r.From, Kind: failure.Usage,
			Err:  errors.New("--from needs --identity"),
			Hint: "this machine cannot read what it has shipped; name the secret key file"}
	}
	t, err := a.Target(r.From)
	if err != nil {
		return nil, err
	}
	v, err := a.OpenVaultTarget(ctx, t, signerList(r.Signer))
	if err != nil {
		return nil, err
	}
	defer v.Close()
	for _, note := range v.Notes {
		a.notice(note)
	}
	identities, err := a.Identities(r.Identity)
	if err != nil {
		return nil, err
	}
	dir, err := a.store.Scratch("from-" + t.Name)
	if err != nil {
		return nil, err
	}
	cleanUp = func() {
		if a.CheckNoPendingRestore() == nil { // an unfinished restore still needs it
			os.RemoveAll(dir)
		}
	}
	request.Dir = filepath.Join(dir, "snapshot")
	stored, warnings, err := v.Restore(ctx, r.Name, identities, request.Dir, false, a.progressOf("restore"))
	for _, warning := range warnings {
		a.notice(warning)
	}
	if err != nil {
		cleanUp()
		return nil, err
	}
	request.Stamp = stored.Stamp
	return cleanUp, nil
}

// signerList is the list of the one signer that an operator named, or of none.
func signerList(signer string) []string {
	if signer == "" {
		return nil
	}
	return []string{signer}
}

// Identities loads the secret keys of a file, and asks for the passphrase of one
// that is locked.
func (a *App) Identities(path string) (crypt.Identities, error) {
	return crypt.LoadIdentitiesWithPassphrase(path, a.Options.Passphrase)
}

func (a *App) live() restore.Live {
	c := a.Config.AtoCore
	return restore.Live{DB: c.DBPath, Registry: c.RegistryPath, Chroma: c.ChromaPath}
}

// service returns the commands that stop and start AtoCore.
func (a *App) service() (*restore.Service, error) {
	c := a.Config.Restore
	if len(c.StopCommand) == 0 || len(c.StartCommand) == 0 {
		return nil, &failure.Error{Op: "restore", Subject: "--manage-service", Kind: failure.Config,
			Err:  errors.New("restore.stop_command and restore.start_command are not both set"),
			Hint: "set them, or stop the service yourself and use --confirm-service-stopped"}
	}
	s := &restore.Service{Stop: c.StopCommand, Start: c.StartCommand, HealthTimeout: c.HealthTimeout.Std()}
	for _, check := range c.Checks {
		s.Checks = append(s.Checks, restoreCheck(check))
	}
	return s, nil
}

func restoreCheck(c config.Check) restore.Check {
	return restore.Check{URL: c.URL, Method: c.Method, Body: c.Body, Status: c.Status, JSON: c.JSON, Min: c.Min,
		SQL: c.SQL}
}

// ContinueRestore finishes an interrupted restore, or with abort puts
// everything back.
func (a *App) ContinueRestore(ctx context.Context, abort bool, answers restore.Options) (restore.Result, error) {
	lock, err := a.Lock(ctx, "finishing a restore")
	if err != nil {
		return restore.Result{Warnings: []string{}, Errors: []string{}}, err
	}
	defer lock.Unlock()
	o := restore.ResumeOptions{Store: a.store, StateDir: a.Config.StateDir, Live: a.live(),
		HealthURL:      a.Config.AtoCore.HealthURL,
		RequiredTables: a.Config.AtoCore.RequiredTables, PreSnapshot: a.preSnapshot(), Force: answers.Force,
		NoPreSnapshot:  answers.NoPreSnapshot,
		TrustBackupDir: a.Options.TrustBackupDir, Share: a.Config.Backup.Share != "copy",
		Progress: a.progressOf("restore")}
	if abort {
		return restore.Abort(ctx, o)
	}
	return restore.Resume(ctx, o)
}
