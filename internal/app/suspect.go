package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot"
)

// suspects returns the takes whose source had lost much and of which nothing says
// that it is well again, oldest first. The manifest alone knows: the take compared
// the source with the snapshot before it, and accept writes there too.
//
// A later take that is not suspect ends the suspicion of those before it, but only
// for what it holds: a bare one says nothing of the vector store.
func suspects(list []snapshot.Snapshot, now time.Time) (all []health.Shrunk) {
	for _, s := range list { // oldest first
		if !s.Counts(now) || s.Manifest == nil {
			continue
		}
		if what := s.SuspicionTexts(); len(what) > 0 {
			all = append(all, health.Shrunk{Stamp: string(s.Stamp), What: what, Since: s.Stamp.Time()})
			continue
		}
		all = slices.DeleteFunc(all, func(suspect health.Shrunk) bool { return s.Full || !isAboutChroma(suspect) })
	}
	return all
}

// isAboutChroma reports whether a full take is needed to end a suspicion.
func isAboutChroma(s health.Shrunk) bool {
	return slices.ContainsFunc(s.What, func(what string) bool { return strings.HasPrefix(what, "chroma_") })
}

// Accept says of a take that what its source had lost was meant to go, and of the
// takes before it that are suspect for no other reason: they met the same loss. Of a
// snapshot that is gone it says that nobody need look for it any more.
func (a *App) Accept(ctx context.Context, stamp snapshot.Stamp) error {
	list, _, err := a.Snapshots(ctx, time.Now())
	if err != nil {
		return err
	}
	if gone, err := a.acceptGone(ctx, stamp, list); gone || err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(s snapshot.Snapshot) bool { return s.Stamp == stamp })
	if i < 0 || len(list[i].Suspicions()) == 0 {
		return &failure.Error{Op: "accept", Subject: string(stamp), Kind: failure.Usage,
			Err: errors.New("nothing about it waits to be accepted"), Hint: "see `atobackupd status` for what does"}
	}
	lock, err := a.Lock(ctx, "accept "+string(stamp))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	meant := list[i].Suspicions()
	for _, s := range slices.Backward(list[:i+1]) {
		codes := s.Suspicions()
		other := slices.ContainsFunc(codes, func(code string) bool { return !slices.Contains(meant, code) })
		if len(codes) == 0 || other {
			continue
		}
		if err := a.store.Accept(s.Stamp, time.Now()); err != nil {
			return err
		}
	}
	return nil
}
