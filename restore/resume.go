package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// ResumeOptions say how an interrupted restore is taken up again. The caller
// holds the store's main lock.
type ResumeOptions struct {
	Store          *snapshot.Store
	StateDir       string
	Live           Live // where a damaged journal may have left something
	HealthURL      string
	RequiredTables []string
	PreSnapshot    snapshot.TakeOptions // as in a Request
	Force          bool                 // go on although files are open; with Abort, give up what cannot be put back
	NoPreSnapshot  bool                 // drop what was live before, where it cannot be saved
	TrustBackupDir bool                 // believe a journal of version 0.1.0 although others can write beside it
	Share          bool
	Progress       fsx.Progress
}

func (o ResumeOptions) place() Place {
	return Place{StateDir: o.StateDir, BackupDir: o.Store.Dir(), TrustBackupDir: o.TrustBackupDir}
}

// Resume finishes the restore whose journal stands, from whatever point it was
// killed at. One that had been put back already is only cleaned up after, with
// a warning. Without a journal there is nothing to do, which a warning says.
func Resume(ctx context.Context, o ResumeOptions) (res Result, err error) {
	return o.end(ctx, (*resumption).finish)
}

// Abort puts everything back to what stood before the restore whose journal
// stands. One whose old copies are removed already cannot be taken back: it is
// cleaned up after, with a warning that names the pre-restore snapshot. With Force a
// damaged journal is moved aside, which puts nothing back. Without a journal there is
// nothing to do, which a warning says.
func Abort(ctx context.Context, o ResumeOptions) (res Result, err error) {
	if o.Force {
		start := time.Now()
		res = newResult("", "")
		if damaged, err := o.setJournalAside(&res); damaged {
			res.close(start, err)
			return res, err
		}
	}
	return o.end(ctx, (*resumption).abort)
}

// resumption is an interrupted restore that is being ended.
type resumption struct {
	*session
	o   ResumeOptions
	res *Result
}

func (o ResumeOptions) end(ctx context.Context, end func(*resumption, context.Context) error) (res Result, err error) {
	start := time.Now()
	res = newResult("", "")
	defer func() { res.close(start, err) }()
	j, err := o.place().Pending()
	if err != nil {
		return res, err
	}
	if j == nil { // as after the second of two: both are idempotent
		res.Warnings = append(res.Warnings, "no restore is unfinished: nothing was done")
		return res, nil
	}
	s := &session{Journal: j, resumed: true, owners: tree.Trusted(o.StateDir), share: o.Share,
		keepOwner: !o.Force || hasChown(), progress: o.Progress}
	defer s.close()
	if err := j.believed(o.place()); err != nil {
		return res, err
	}
	s.NoPreSnapshot = s.NoPreSnapshot || o.NoPreSnapshot
	res.Stamp, res.Source, res.PreRestoreSnapshot = string(j.Stamp), j.Source, j.PreRestoreSnapshot
	defer func() { res.Warnings = append(res.Warnings, s.warnings...) }()
	r := &resumption{session: s, o: o, res: &res}
	stood := j.Phase
	if err = end(r, ctx); failure.KindOf(err) != failure.Refused {
		r.warnStopped(ctx, stood)
	}
	return res, err
}

// warnStopped tells that the service was stopped for the restore, which may have been
// killed before it started it again. stood is the phase that it was killed in.
func (r *resumption) warnStopped(ctx context.Context, stood Phase) {
	switch {
	case !r.Managed:
	case r.o.HealthURL == "" || !listening(ctx, r.o.HealthURL):
		r.warn("the service had been stopped for this restore: start it")
	case stood == PhaseStaging: // and the stop command may not have ended with it
		r.warn("the service may be being stopped for this restore: see that it runs")
	}
}

// finish goes forward from where the journal says.
func (r *resumption) finish(ctx context.Context) error {
	switch r.Phase {
	case PhaseStaging:
		return r.stageAgain(ctx)
	case PhaseSwapping:
		if err := r.openUnused(ctx); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Sets, func(t *swapSet) bool { return t.live == nil }) {
			return r.stuck(errNoWorkspace) // going forward with the others would make half a store
		}
		always := context.WithoutCancel(ctx)
		err := r.exchange(always)
		if errors.Is(err, errOldInUse) {
			return r.stuck(err)
		}
		if err != nil {
			return r.undo(always, err)
		}
		return r.settle(ctx, r.o.Store, r.o.PreSnapshot, r.res)
	case PhaseChecking, PhaseAnchoring:
		if err := r.openSets(); err != nil {
			return r.stuck(err)
		}
		return r.settle(ctx, r.o.Store, r.o.PreSnapshot, r.res)
	case PhaseCommitted:
		return r.endCommitted()
	case PhaseAborted:
		return r.endAborted()
	}
	return r.stuck(fmt.Errorf("the journal has a phase that is not known: %q", r.Phase))
}

// abort goes back from where the journal says.
func (r *resumption) abort(ctx context.Context) error {
	switch r.Phase {
	case PhaseStaging:
		return r.discard()
	case PhaseSwapping, PhaseChecking, PhaseAnchoring:
		err := r.openUnused(ctx)
		if err == nil {
			err = r.takeBack(context.WithoutCancel(ctx))
		}
		if err != nil && r.o.Force && failure.KindOf(err) != failure.Refused {
			return r.giveUp(err)
		}
		return err
	case PhaseCommitted:
		way := "no pre-restore snapshot was taken"
		if r.PreRestoreSnapshot != "" {
			way = "to go back: " + r.res.WayBack("--confirm-service-stopped")
		}
		r.warn("the restore had been committed and cannot be aborted any more; %s", way)
		return r.endCommitted()
	case PhaseAborted:
		return r.endAborted()
	}
	return r.stuck(fmt.Errorf("the journal has a phase that is not known: %q", r.Phase))
}

// openUnused opens the sets of a swap that is going to move files, once nobody
// uses them.
func (r *resumption) openUnused(ctx context.Context) error {
	if err := r.recheckUnused(ctx, r.o.HealthURL, r.o.Force); err != nil {
		return err
	}
	if err := r.openSets(); err != nil && !errors.Is(err, errNoWorkspace) {
		return r.stuck(err)
	}
	return nil
}

// openSets opens every set's directories. One whose workspace was deleted stays
// closed, and the error says so.
func (s *session) openSets() error {
	var all []error
	for _, t := range s.Sets {
		if err := t.open(s.owners); isMissing(err) {
			all = append(all, fmt.Errorf("%w: %w", errNoWorkspace, err))
		} else if err != nil {
			return err
		}
	}
	return errors.Join(all...)
}

// giveUp forgets a restore that can go neither way, and says what that leaves.
func (r *resumption) giveUp(cause error) error {
	r.warn("the restore was given up: %v", cause)
	for _, t := range r.Sets {
		if t.live == nil {
			r.warn("the old %s is lost with %s", t.Artifact, t.Work)
			continue
		}
		if moved, err := t.moved(); err == nil && moved {
			r.warn("%s in %s is neither whole nor old", t.Artifact, t.Dir)
			if err := r.keepOld(t); err != nil {
				return r.stuck(err)
			}
		}
	}
	r.warn("restore a snapshot over it: %s", r.nextBest())
	return r.discard()
}

// keepOld moves what is left of the old files to where they outlive the journal.
func (s *session) keepOld(t *swapSet) error {
	var names []string
	for info, err := range t.old.Entries() {
		if err != nil {
			return err
		}
		names = append(names, info.Name)
	}
	for _, name := range names {
		if err := s.setAside(t, t.old, name); err != nil {
			return err
		}
	}
	if len(names) > 0 {
		s.warn("what is left of the old %s is in %s", t.Artifact, keptDir(t.Dir, s.Stamp))
	}
	return nil
}

func (r *resumption) endCommitted() error {
	if err := r.openSets(); err != nil && !errors.Is(err, errNoWorkspace) {
		return r.stuck(err)
	}
	for _, t := range r.Sets {
		r.res.restored(t.Artifact, t.restores())
	}
	r.res.RestoredIntegrityOK = r.IntegrityOK
	r.reportKept()
	return r.session.finish()
}

func (r *resumption) endAborted() error {
	if err := r.openSets(); err != nil && !errors.Is(err, errNoWorkspace) {
		return r.stuck(err)
	}
	r.warn("the restore had been taken back already: the live store is what it was")
	r.reportKept()
	return r.discard()
}

// stageAgain begins the staging anew: what a killed process left of it proves
// nothing.
func (r *resumption) stageAgain(ctx context.Context) error {
	o := r.o
	if err := r.recheckUnused(ctx, o.HealthURL, o.Force); err != nil {
		return err
	}
	again := Request{
		Options:        r.Options,
		Store:          o.Store,
		StateDir:       o.StateDir,
		Dir:            r.Snapshot,
		Stamp:          r.Stamp,
		Source:         r.Source,
		Live:           r.Live,
		RequiredTables: o.RequiredTables,
		HealthURL:      o.HealthURL,
		PreSnapshot:    o.PreSnapshot,
		Share:          o.Share,
		Progress:       o.Progress,
	}
	again.Force = again.Force || o.Force
	if r.Snapshot == o.Store.Path(r.Stamp) {
		hold, err := o.Store.LockShared(r.Stamp)
		if err != nil {
			return r.stuck(err)
		}
		defer hold.Unlock()
	}
	if err := r.clear(); err != nil {
		return r.stuck(err)
	}
	plan, err := NewPlan(ctx, again)
	if err != nil {
		return r.stuck(err)
	}
	defer plan.Close()
	if err := plan.Err(); err != nil {
		return r.stuck(err)
	}
	r.IntegrityOK = plan.integrityOK()
	if err := r.prepare(ctx, plan.artifacts, plan.src); err != nil {
		return again.failed(err)
	}
	if err := r.recheckUnused(ctx, o.HealthURL, o.Force); err != nil {
		return errors.Join(err, r.discard())
	}
	if err := r.swap(ctx, context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return r.settle(ctx, o.Store, o.PreSnapshot, r.res)
}
