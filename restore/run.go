package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Run restores a snapshot: it refuses what is unsafe before anything is touched
// (kind Refused, or Invalid for the snapshot), stages, swaps, and saves what was
// live before as the pre-restore snapshot. With a Service all up to the swap
// happens while it still runs, and what is saved is saved after it was started
// again. On an error the live store is what it was, unless the error says that
// the journal stands. The Result is filled in either way.
//
// A cancelled ctx ends it with everything as it was, up to the first step of
// the swap. The swap itself is carried through, cancelled or not: what is staged
// has been proven, the swap takes a moment, and whole and new is what was asked
// for.
func Run(ctx context.Context, r Request) (res Result, err error) {
	start := time.Now()
	res = newResult(string(r.Stamp), r.Source)
	defer func() { res.close(start, err) }()
	if !r.ConfirmServiceStopped && r.Service == nil && r.To == "" {
		return res, r.refuse(errors.New("restoring under a running service corrupts the database"),
			"stop the service, then add --confirm-service-stopped (or use --manage-service)")
	}
	if r.To == "" {
		if err := r.place().RefusePending(); err != nil {
			return res, err
		}
	} else if err := r.checkTo(); err != nil {
		return res, err
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
	defer plan.Close()
	res.Warnings = append(res.Warnings, plan.Warnings...)
	if err := plan.Err(); err != nil {
		return res, err
	}
	if r.To != "" {
		err = r.extract(ctx, plan, &res)
		return res, err
	}
	err = r.replace(ctx, plan, &res)
	return res, err
}

// checkTo refuses a scratch directory among what it must not touch.
func (r *Request) checkTo() error {
	to, err := filepath.Abs(r.To)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(nearest(to)); err == nil {
		rest, _ := filepath.Rel(nearest(to), to)
		to = filepath.Join(real, rest)
	}
	for _, place := range []string{r.Live.Chroma, r.Live.DB, r.Live.Registry, r.Store.Dir(), r.StateDir} {
		if place == "" {
			continue
		}
		if real, err := filepath.EvalSymlinks(place); err == nil {
			place = real
		}
		if rel, err := filepath.Rel(place, to); err == nil && filepath.IsLocal(rel) {
			return r.refuse(fmt.Errorf("%s lies in %s, which this program writes itself", r.To, place), "name a directory elsewhere")
		}
	}
	return nil
}

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
			s.warn("%s belonged to uid %d, and the application's uid %d could not have written there: it was given back",
				a.dir, a.newOwner.Old.UID, a.newOwner.New.UID)
		}
	}
	if err := s.prepare(ctx, plan.artifacts, plan.src); err != nil {
		return r.failed(err)
	}
	s.IntegrityOK = plan.integrityOK()
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
	return &failure.Error{Op: "restore", Subject: string(r.Stamp), Kind: kind, Err: err, Hint: "the live store was not touched"}
}

// recheckUnused repeats, just before the swap or when one is taken up again, the
// look for processes that use the store.
func (s *session) recheckUnused(ctx context.Context, healthURL string, force bool) error {
	if force {
		return nil
	}
	w := openFiles{}
	w.addLive(s.Live, !s.NoChroma)
	for _, t := range s.Sets {
		what := "database"
		if t.Whole {
			what = snapshot.Chroma
		}
		w.addTree(what, t.Work)
	}
	found, _, err := w.processes()
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

// swap exchanges what has been staged, or puts everything back. ctx ends it
// before its first step; always is not cancelled any more.
func (s *session) swap(ctx, always context.Context) error {
	if err := s.layEntries(ctx); err != nil {
		return errors.Join(&failure.Error{Op: "restore", Subject: string(s.Stamp), Kind: kindOf(err), Err: err,
			Hint: "the live store was not touched"}, s.discard())
	}
	err := s.enter(PhaseSwapping)
	if err == nil {
		err = s.forward(always)
	}
	if err == nil {
		err = s.confirm()
	}
	if err != nil {
		return s.undo(always, err)
	}
	return nil
}

func kindOf(err error) failure.Kind {
	if isNoSpace(err) {
		return failure.NoSpace
	}
	return failure.KindOf(err)
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
				s.warn("%s was written to after it had been restored: the service was started before the restore had finished", t.live.Name(e.Name))
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
		err = s.enter(PhaseAborted)
	}
	if err != nil {
		return s.stuck(err)
	}
	s.reportKept()
	return s.discard()
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || failure.KindOf(err) == failure.NoSpace
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
