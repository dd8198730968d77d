package restore

import (
	"context"
	"errors"
	"fmt"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// replace is the restore proper.
func (r *Request) replace(ctx context.Context, plan *Plan, res *Result) error {
	s, err := begin(r, plan.artifacts)
	if err != nil {
		if s != nil { // its name may be there although it could not be made durable
			err = errors.Join(err, s.discard())
			s.close()
		}
		return r.failed(err)
	}
	defer s.close()
	defer func() { res.Warnings = append(res.Warnings, s.warnings...) }()
	for _, a := range plan.artifacts {
		if a.newOwner != nil {
			s.warn(
				"%s belonged to uid %d, and the application's uid %d could not have written there: it was given back",
				a.dir,
				a.newOwner.Old.UID,
				a.newOwner.New.UID,
			)
		}
	}
	if err := s.prepare(ctx, plan.artifacts, plan.src); err != nil {
		return r.failed(err)
	}
	s.IntegrityOK, s.proven = plan.integrityOK(), plan.src.proven
	if r.Service != nil {
		return r.managed(ctx, s, res)
	}
	if err := s.recheckUnused(ctx, r.HealthURL, r.Force); err != nil {
		return errors.Join(err, s.discard())
	}
	always := context.WithoutCancel(ctx)
	if err := s.swap(ctx, always); err != nil {
		return err
	}
	return s.settle(ctx, r.Store, r.PreSnapshot, res)
}

// failed is the error of a restore that ended before its swap.
func (r *Request) failed(err error) error {
	if kind := failure.KindOf(err); kind == failure.Interrupted || kind == failure.Refused || kind == failure.Config {
		return err
	}
	kind := failure.Other
	if isNoSpace(err) {
		kind = failure.NoSpace
	}
	return &failure.Error{
		Op:      "restore",
		Subject: string(r.Stamp),
		Kind:    kind,
		Err:     err,
		Hint:    "the live store was not touched",
	}
}

// managed swaps a service's store under it: everything is staged while the
// service still runs, then it is stopped, the store is exchanged by renames, and
// it is started and asked whether it is well. When it is not, what was moved
// aside is moved back, which takes no copying. Once the service has been stopped,
// a cancelled ctx still leads to its start.
func (r *Request) managed(ctx context.Context, s *session, res *Result) error {
	always := context.WithoutCancel(ctx)
	if err := r.stop(ctx); err != nil {
		return errors.Join(r.notRestored("the service was not stopped", err), s.discard(), r.startAgain(always))
	}
	if err := r.waitFree(ctx, s); err != nil {
		return errors.Join(err, s.discard(), r.startAgain(always))
	}
	err := s.swap(ctx, always)
	if errors.Is(err, errOldInUse) {
		s.warnStarted()
		err = r.whileStopped(always, s, func() error { return s.exchange(always) })
		if err != nil {
			return s.stuck(err)
		}
	}
	if err != nil {
		if s.Phase == PhaseSwapping {
			// Between old and new: no service must see it.
			return errors.Join(err, r.isDown())
		}
		return errors.Join(err, r.startAgain(always))
	}
	if err := s.enter(PhaseChecking); err != nil {
		return errors.Join(s.undo(always, err), r.startAgain(always))
	}
	err = r.runs(always, ctx)
	if err == nil {
		return s.settle(ctx, r.Store, r.PreSnapshot, res)
	}
	if ctx.Err() != nil {
		s.restored(res)
		return s.stuck(&failure.Error{Op: "restore", Subject: string(r.Stamp), Kind: failure.Interrupted,
			Err: errors.New("interrupted while the restored service was being checked; it was left restored")})
	}
	return r.rollBack(always, s, res, err)
}

// whileStopped stops the service and has do move files, and does so again when
// somebody started the service in the middle.
func (r *Request) whileStopped(ctx context.Context, s *session, do func() error) error {
	for tries := 3; ; tries-- {
		err := r.stop(ctx)
		if err == nil {
			err = r.waitFree(ctx, s)
		}
		if err == nil {
			err = do()
		}
		if tries == 1 || !errors.Is(err, errOldInUse) && !errors.Is(err, errNewInUse) {
			return err
		}
		s.warnStarted()
	}
}

func (s *session) warnStarted() {
	s.warn("the service was started by somebody else while its store was being exchanged: it was stopped again")
}

func (r *Request) notRestored(what string, err error) error {
	return &failure.Error{
		Op:      "restore",
		Subject: string(r.Stamp),
		Err:     fmt.Errorf("%s: %w", what, err),
		Hint:    "the live store was not touched",
	}
}

// swap exchanges what has been staged, or puts everything back. ctx ends it
// before its first step; always is not cancelled any more.
func (s *session) swap(ctx, always context.Context) error {
	if err := s.layEntries(ctx); err != nil {
		return errors.Join(&failure.Error{Op: "restore", Subject: string(s.Stamp), Kind: kindOf(err), Err: err,
			Hint: "the live store was not touched"}, s.discard())
	}
	err := s.enter(PhaseSwapping)
	if err == nil {
		err = s.exchange(always)
	}
	if errors.Is(err, errOldInUse) {
		return s.stuck(err)
	}
	if err != nil {
		return s.undo(always, err)
	}
	return nil
}

// What a service that was started in the middle of an exchange has open.
var (
	errOldInUse = errors.New("the service was started in the middle, and has replaced files open")
	errNewInUse = errors.New("the service was started in the middle, and has files open that were taken away again")
)

// exchange brings every set to all new, and looks that it is, and that nobody goes on
// with what was there before.
func (s *session) exchange(ctx context.Context) error {
	if err := s.forward(ctx); err != nil {
		return err
	}
	if err := s.confirm(); err != nil {
		return err
	}
	return s.strandedUse(errOldInUse)
}

// confirm looks that what was put in place is there. Its bytes were proven when
// they were staged; what somebody has written to since is told.
func (s *session) confirm() error {
	for _, t := range s.Sets {
		for _, e := range t.Entries {
			if e.New == nil {
				continue
			}
			at, err := inodeAt(t.live, e.Name)
			if err != nil {
				return err
			}
			if !at.sameInode(e.New) {
				return fmt.Errorf("%s is not what was put there", t.live.Name(e.Name))
			}
			same, err := unchanged(t.live, e.Name, e.New)
			if err != nil {
				return err
			}
			if !same {
				s.warn(
					"%s was written to after it had been restored: the service was started before the restore had "+
						"finished",
					t.live.Name(e.Name),
				)
			}
		}
	}
	return nil
}

// undo puts everything back after a swap that failed, and says why it did.
func (s *session) undo(ctx context.Context, cause error) error {
	if err := s.takeBack(ctx); err != nil {
		return errors.Join(&failure.Error{Op: "restore", Subject: string(s.Stamp), Err: cause}, err)
	}
	return &failure.Error{Op: "restore", Subject: string(s.Stamp), Kind: kindOf(cause), Err: cause,
		Hint: "everything was put back; the live store is what it was"}
}

// takeBack swaps back and cleans up.
func (s *session) takeBack(ctx context.Context) error {
	var err error
	if s.Phase != PhaseSwapping {
		// A later phase may be on disk: a kill from here on must not find it there.
		err = s.enter(PhaseSwapping)
	}
	if err == nil {
		err = s.back(ctx)
	}
	if err == nil {
		err = s.strandedUse(errNewInUse)
	}
	if err == nil {
		err = s.enter(PhaseAborted)
	}
	if err != nil {
		return s.stuck(err)
	}
	s.reportKept()
	return s.discard()
}

// rollBack moves back what was moved aside, after the restored service turned out
// not to be well, and starts the service on it.
func (r *Request) rollBack(ctx context.Context, s *session, res *Result, cause error) error {
	fail := func(err error, hint string) error {
		return &failure.Error{Op: "restore", Subject: string(r.Stamp), Err: err, Hint: hint}
	}
	r.Progress.Tell("roll back", 0, 0)
	res.nothingRestored()
	err := r.whileStopped(ctx, s, func() error { return s.takeBack(ctx) })
	if err != nil {
		return fail(fmt.Errorf("the restored service is not well (%w), and the roll-back failed: %w", cause, err),
			"remove the cause, keep the service stopped, and finish the roll-back with `atobackupd restore --abort`")
	}
	res.RolledBack = true
	err = fail(fmt.Errorf("rolled back, because the restored service was not well: %w", cause),
		"the live store is what it was; see the service's own log, or try an older snapshot")
	if again := r.runs(ctx, ctx); again != nil {
		var down *failure.Error
		if errors.As(again, &down) {
			if again.Error() == cause.Error() {
				return err // it says already what keeps the service down
			}
			return errors.Join(err, again)
		}
		res.Warnings = append(res.Warnings, "on the old store, too, the service is not well: "+again.Error())
	}
	return err
}

// restored says of each artifact what is live now: the store is the new one.
func (s *session) restored(res *Result) {
	res.RestoredIntegrityOK = s.IntegrityOK
	for _, t := range s.Sets {
		res.restored(t.Artifact, t.restores())
	}
}

// settle ends a restore whose store is the new one and good: it saves what was
// live before, and removes the old copies and the journal.
func (s *session) settle(ctx context.Context, store *snapshot.Store, o snapshot.TakeOptions, res *Result) error {
	s.restored(res)
	s.reportKept()
	s.warnBystanders()
	if s.NoPreSnapshot || !s.replacesAny() {
		if !s.NoPreSnapshot {
			s.warn("nothing stood there before, so there is no pre-restore snapshot")
		}
		if err := s.enter(PhaseCommitted); err != nil {
			return s.stuck(err)
		}
		return s.finish()
	}
	if s.Phase != PhaseAnchoring {
		if err := s.enter(PhaseAnchoring); err != nil {
			return s.stuck(err)
		}
	}
	snap, err := s.anchor(ctx, store, o)
	if err != nil {
		return s.stuck(s.notAnchored(ctx, err))
	}
	s.PreRestoreSnapshot = string(snap.Stamp)
	if err := s.enter(PhaseCommitted); err != nil {
		return s.stuck(err)
	}
	res.PreRestoreSnapshot, res.PreRestoreInvalid = s.PreRestoreSnapshot, !snap.IsValid()
	if res.PreRestoreInvalid {
		s.warn(
			"what was live before was not whole: %s holds it as it was (%s); to bring it back: %s",
			snap.Stamp,
			clip(snap.Errors),
			res.WayBack("--confirm-service-stopped"),
		)
	}
	return s.finish()
}

func (s *session) notAnchored(ctx context.Context, err error) error {
	if ctx.Err() != nil || failure.KindOf(err) == failure.Interrupted {
		return &failure.Error{Op: "restore", Subject: string(s.Stamp), Kind: failure.Interrupted,
			Err: errors.New("interrupted while what was live before was being saved")}
	}
	kind := failure.Other
	if isNoSpace(err) {
		kind = failure.NoSpace
	}
	return &failure.Error{
		Op:   "pre-restore snapshot",
		Kind: kind,
		Err:  fmt.Errorf("what was live before could not be saved: %w", err),
	}
}

func (s *session) replacesAny() bool {
	for _, t := range s.Sets {
		if t.replaces() {
			return true
		}
	}
	return false
}
