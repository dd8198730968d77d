package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// Continue says how an interrupted restore is taken up again. The caller holds
// the store's main lock.
type Continue struct {
	Store          *snapshot.Store
	StateDir       string      // as in Request
	Owners         tree.Owners // as in Request
	TrustBackupDir bool        // take up a journal beside the backups as it is
	HealthURL      string
	RequiredTables []string
	Force          bool // go on although files are open or the service answers
	Share          bool
	Progress       Progress
}

// Resume finishes the restore whose journal stands, from whatever point it was
// killed at. One that had been put back already is only cleaned up after, with
// a warning. Without a journal the error is of kind NotFound.
func Resume(ctx context.Context, c Continue) (res Result, err error) {
	return c.end(ctx, true)
}

// Abort puts everything back to what stood before the restore whose journal
// stands. One that had been committed cannot be taken back: it is cleaned up
// after, with a warning that names the pre-restore snapshot. Without a journal
// the error is of kind NotFound.
func Abort(ctx context.Context, c Continue) (res Result, err error) {
	return c.end(ctx, false)
}

func (c Continue) end(ctx context.Context, forward bool) (res Result, err error) {
	start := time.Now()
	res = newResult("", "")
	defer func() { res.close(start, err) }()
	j, err := PendingJournal(c.StateDir, c.Store.Dir())
	if err != nil {
		return res, err
	}
	if j == nil {
		return res, &failure.Error{Op: "restore", Subject: c.Store.Dir(), Kind: failure.NotFound,
			Err: errors.New("no restore is unfinished"), Hint: "to restore a snapshot: atobackupd restore STAMP --confirm-service-stopped"}
	}
	if err := j.mayTakeUp(c); err != nil {
		return res, err
	}
	res.Stamp, res.Source, res.PreRestoreSnapshot = string(j.Stamp), j.Source, j.PreRestoreSnapshot
	s := &session{Journal: j, share: c.Share, keepOwner: !c.Force || hasChown(), report: c.Progress, places: newPlaces(c.Owners)}
	defer func() { err = s.close(&res, err) }()
	if err := s.openTargets(); err != nil {
		return res, s.stuck(err)
	}
	switch j.Phase {
	case PhaseCommitted:
		err = s.endCommitted(forward, &res)
		return res, err
	case PhaseAborted:
		s.warn("the restore had been taken back already: the live store is what it was")
		s.reportKept()
		return res, s.discard()
	case PhaseStaging, PhaseSwapping:
	default:
		return res, s.stuck(fmt.Errorf("the journal has a phase that is not known: %q", j.Phase))
	}
	if err := s.stillUnused(ctx, c.HealthURL, c.Force); err != nil {
		return res, err
	}
	if j.Managed {
		s.warn("the service had been stopped for this restore: start it")
	}
	switch {
	case forward && j.Phase == PhaseStaging:
		err = s.stageAgain(ctx, c, &res)
		return res, err
	case forward:
		err = s.carryOut(context.WithoutCancel(ctx), &res)
		return res, err
	case j.Phase == PhaseStaging:
		return res, s.discard()
	}
	return res, s.takeBack(context.WithoutCancel(ctx))
}

func (s *session) endCommitted(forward bool, res *Result) error {
	for _, t := range s.Targets {
		res.restored(t.Artifact, t.restores())
	}
	res.RestoredIntegrityOK = s.IntegrityOK
	if !forward {
		way := "no pre-restore snapshot was taken"
		if s.PreRestoreSnapshot != "" {
			way = fmt.Sprintf("to go back: atobackupd restore %s --confirm-service-stopped --no-pre-snapshot", s.PreRestoreSnapshot)
		}
		s.warn("the restore had been committed and cannot be aborted any more; %s", way)
	}
	s.reportKept()
	return s.finish()
}

// stageAgain begins the staging anew: what a killed process left of it proves
// nothing.
func (s *session) stageAgain(ctx context.Context, c Continue, res *Result) error {
	r := Request{Store: c.Store, Dir: s.Snapshot, Stamp: s.Stamp, Source: s.Source, Live: s.Live, Owners: c.Owners, StateDir: c.StateDir,
		NoChroma: s.NoChroma, ForceChroma: s.ForceChroma, AllowInvalid: s.AllowInvalid, exact: s.Exact, Progress: c.Progress}
	if s.Snapshot == c.Store.Path(s.Stamp) {
		hold, err := c.Store.Hold(s.Stamp)
		if err != nil {
			return s.stuck(err)
		}
		defer hold.Unlock()
	}
	src := readSource(s.Snapshot, s.Stamp)
	if err := src.validate(ctx, c.RequiredTables, c.Progress); err != nil {
		return s.stuck(err)
	}
	if !src.valid() && !s.AllowInvalid {
		return s.stuck(refusal(string(s.Stamp), failure.Invalid, fmt.Errorf("the snapshot is not valid: %s", clip(src.problems)), ""))
	}
	if err := s.clear(); err != nil {
		return s.stuck(err)
	}
	parts, _, err := r.parts(src)
	if err != nil {
		return s.stuck(err)
	}
	if err := s.prepare(ctx, parts, src); err != nil {
		return r.failed(err)
	}
	if err := s.stillUnused(ctx, c.HealthURL, c.Force); err != nil {
		return errors.Join(err, s.discard())
	}
	return s.carryOut(context.WithoutCancel(ctx), res)
}
