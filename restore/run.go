package restore

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Run restores a snapshot: refuses what is unsafe before anything is touched
// (kind Refused, or Invalid for the snapshot), takes the pre-restore snapshot,
// stages, swaps, checks. On an error the live store is what it was, unless the
// error says that the journal stands. The Result is filled in either way.
//
// A cancelled ctx ends it with everything as it was, up to the first step of
// the swap. From there on it is carried through, cancelled or not: what is
// staged has been proven, the swap takes a moment, and whole and new is what
// was asked for.
func Run(ctx context.Context, r Request) (res Result, err error) {
	start := time.Now()
	res = newResult(string(r.Stamp), r.Source)
	defer func() { res.close(start, err) }()
	if !r.ConfirmServiceStopped && r.Service == nil && r.To == "" {
		return res, r.refuse(errors.New("restoring under a running service corrupts the database"),
			"stop the service, then add --confirm-service-stopped (or use --manage-service)")
	}
	if r.To == "" {
		if err := RefusePending(r.StateDir, r.Store.Dir()); err != nil {
			return res, err
		}
	}
	if r.Dir == "" || r.Dir == r.Store.Path(r.Stamp) {
		hold, err := r.Store.Hold(r.Stamp)
		if err != nil {
			return res, err
		}
		defer hold.Unlock()
	}
	plan, err := NewPlan(ctx, r)
	if err != nil {
		return res, err
	}
	res.Warnings = append(res.Warnings, plan.Warnings...)
	if err := plan.Err(); err != nil {
		return res, err
	}
	switch {
	case r.To != "":
		err = r.layOut(ctx, plan, &res)
		return res, err
	case r.Service != nil:
		err = r.managed(ctx, plan, &res)
		return res, err
	}
	err = r.replace(ctx, plan, &res)
	return res, err
}

// replace is the restore proper, of a store that is not in use.
func (r *Request) replace(ctx context.Context, plan *Plan, res *Result) (err error) {
	if !r.NoPreSnapshot {
		pre, err := r.takePreSnapshot(ctx, plan.parts)
		if err != nil {
			return &failure.Error{Op: "restore", Subject: string(r.Stamp), Err: fmt.Errorf("the snapshot of the live store could not be taken: %w", err),
				Hint: "nothing was touched; remove the cause, or go without a way back with --no-pre-snapshot"}
		}
		res.PreRestoreSnapshot = string(pre.Stamp)
		if !pre.IsValid() {
			res.Warnings = append(res.Warnings, fmt.Sprintf("the live store was not whole: %s holds it as it was (%s); to bring it back: atobackupd restore %s --confirm-service-stopped --no-pre-snapshot --allow-invalid",
				pre.Stamp, clip(pre.Errors), pre.Stamp))
		}
	}
	s, err := begin(r, plan.parts, res.PreRestoreSnapshot)
	if err != nil {
		if s != nil { // its name may be there although it could not be made durable
			err = errors.Join(err, s.discard())
		}
		return r.failed(err)
	}
	defer func() { err = s.close(res, err) }()
	if err := s.prepare(ctx, plan.parts, plan.src); err != nil {
		return r.failed(err)
	}
	if err := s.stillUnused(ctx, r.HealthURL, r.Force); err != nil {
		return errors.Join(err, s.discard())
	}
	return s.carryOut(context.WithoutCancel(ctx), res)
}

func (r *Request) takePreSnapshot(ctx context.Context, parts []part) (snapshot.Snapshot, error) {
	o := r.PreSnapshot
	o.Kind, o.Tolerant, o.ChromaMethod, o.Full = snapshot.PreRestore, true, "cold", false
	for _, p := range parts {
		o.Full = o.Full || p.whole()
	}
	if r.Force {
		o.ChromaMethod = "live" // somebody may be using it
	}
	if o.Progress == nil {
		o.Progress = r.Progress
	}
	return r.Store.Take(ctx, snapshot.Sources{DB: r.Live.DB, Registry: r.Live.Registry, Chroma: r.Live.Chroma}, o)
}

// failed is the error of a restore that ended before its swap.
func (r *Request) failed(err error) error {
	if failure.KindOf(err) == failure.Interrupted || failure.KindOf(err) == failure.Refused {
		return err
	}
	kind := failure.Other
	if isNoSpace(err) {
		kind = failure.NoSpace
	}
	return &failure.Error{Op: "restore", Subject: string(r.Stamp), Kind: kind, Err: err, Hint: "the live store was not touched"}
}

// stillUnused repeats, just before the swap or when one is taken up again, the
// look for processes that use the store.
func (s *session) stillUnused(ctx context.Context, healthURL string, force bool) error {
	if force {
		return nil
	}
	w := watched{}
	w.addLive(s.Live, !s.NoChroma)
	for _, t := range s.Targets {
		what := "database"
		if t.Whole {
			what = snapshot.Chroma
		}
		w.addTree(what, t.Work)
	}
	found, _, err := w.holders()
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return refusal(string(s.Stamp), failure.Refused, openIn(found[0]), stopHint)
	}
	if listening(ctx, healthURL) {
		return refusal(string(s.Stamp), failure.Refused, fmt.Errorf("the service answers at %s", healthURL), stopHint)
	}
	return nil
}

// carryOut swaps, checks and commits what has been staged, or puts everything
// back. ctx is not cancelled any more.
func (s *session) carryOut(ctx context.Context, res *Result) error {
	err := s.enter(PhaseSwapping)
	if err == nil {
		err = s.forward(ctx)
	}
	if err == nil {
		err = s.check(ctx)
	}
	if err == nil {
		for _, t := range s.Targets {
			res.restored(t.Artifact, t.restores())
		}
		err = s.enter(PhaseCommitted)
	}
	if err != nil {
		res.nothingRestored()
		return s.undo(ctx, err)
	}
	res.RestoredIntegrityOK = s.IntegrityOK
	s.reportKept()
	return s.finish()
}

// undo puts everything back after a swap that failed, and says why it did.
func (s *session) undo(ctx context.Context, cause error) error {
	if err := s.takeBack(ctx); err != nil {
		return errors.Join(&failure.Error{Op: "restore", Subject: string(s.Stamp), Err: cause}, err)
	}
	hint := "everything was put back; the live store is what it was"
	if s.PreRestoreSnapshot != "" {
		hint += ", and " + s.PreRestoreSnapshot + " holds it too"
	}
	return &failure.Error{Op: "restore", Subject: string(s.Stamp), Err: cause, Hint: hint}
}

// takeBack swaps back and cleans up.
func (s *session) takeBack(ctx context.Context) error {
	var err error
	if s.Phase != PhaseSwapping {
		// The write that should have committed failed, and may be on disk all the
		// same: a kill from here on must not find it there.
		err = s.enter(PhaseSwapping)
	}
	if err == nil {
		err = s.back(ctx)
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

// reportKept tells what somebody else made during the restore.
func (s *session) reportKept() {
	for _, path := range s.kept() {
		s.warn("%s was made or written to by somebody else during the restore; it was moved aside and is yours to look at", path)
	}
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || failure.KindOf(err) == failure.NoSpace
}
