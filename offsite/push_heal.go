package offsite

import (
	"context"
	"fmt"
	"slices"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// SourceError is an error of a push that is about the local snapshot itself: the
// other snapshots can still be sent.
type SourceError struct{ Err error }

// Error is that of what went wrong.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap returns it.
func (e *SourceError) Unwrap() error { return e.Err }

// sourceError marks an error as one about the local snapshot, unless the work was
// interrupted.
func sourceError(err error) error {
	if err == nil || failure.KindOf(err) == failure.Interrupted {
		return err
	}
	return &SourceError{err}
}

// Healing is what the findings of a target ask of the next pushes.
type Healing struct {
	Again   []snapshot.Stamp // to be pushed again: their snapshot is here
	Damaged map[string]bool  // packs that count as lost, by id
	Replace map[snapshot.Stamp][]PushID
	Lost    []Finding // for these no local copy is left
}

// PlanHealing decides what mends the findings about damage. here reports whether a
// sound local snapshot of a stamp is there.
func PlanHealing(s *Survey, findings []Finding, here func(snapshot.Stamp) bool) (h Healing) {
	h.Damaged, h.Replace = make(map[string]bool), make(map[snapshot.Stamp][]PushID)
	again := make(map[snapshot.Stamp]bool)
	for _, f := range findings {
		if id, isPack := packID(f.Object); isPack {
			h.Damaged[id] = true
		}
		var lost []snapshot.Stamp
		for _, stamp := range f.Stamps {
			switch {
			case !here(stamp):
				lost = append(lost, stamp)
			case !again[stamp]:
				again[stamp] = true
				h.Again = append(h.Again, stamp)
			}
		}
		if len(lost) > 0 {
			f.Stamps = lost
			h.Lost = append(h.Lost, f)
		}
	}
	slices.Sort(h.Again)
	slices.Reverse(h.Again) // the newest is the most valuable
	for _, p := range s.Current {
		if again[p.Stamp] {
			h.Replace[p.Stamp] = append(h.Replace[p.Stamp], p.Push)
		}
	}
	for _, p := range s.Unproven {
		stamp, _ := p.Push.Stamp()
		h.Replace[stamp] = append(h.Replace[stamp], p.Push)
	}
	for _, push := range s.Unsigned {
		stamp, _ := push.Stamp()
		h.Replace[stamp] = append(h.Replace[stamp], push)
	}
	return h
}

// RemovePush takes a push out of the vault: a snapshot that is not wanted any
// more, or what another push has mended.
func (v *Vault) RemovePush(ctx context.Context, push PushID) error {
	if _, ok := push.Stamp(); !ok {
		return fmt.Errorf("%q is no push", push)
	}
	return v.removePush(ctx, push)
}
