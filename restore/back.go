package restore

import (
	"context"
	"fmt"
	"slices"
)

// back brings every target from wherever it is to all old. It may be repeated
// from any point, and followed by forward.
func (s *session) back(ctx context.Context) error {
	s.progress("swap back", 0)
	for _, t := range slices.Backward(s.Targets) {
		if err := s.backTarget(ctx, t); err != nil {
			return fmt.Errorf("put %s back: %w", t.Artifact, err)
		}
	}
	return nil
}

func (s *session) backTarget(ctx context.Context, t *Target) error {
	moved, err := t.moved()
	if err != nil || !moved {
		// Nothing has been exchanged: whatever stands there now belongs there,
		// also what a service has added since.
		return err
	}
	for _, slot := range slices.Backward(t.Slots) {
		if err := s.takeBackOut(ctx, t, slot); err != nil {
			return err
		}
	}
	if err := s.keepStrangers(t); err != nil {
		return err
	}
	if err := syncTarget(t); err != nil {
		return err
	}
	for _, slot := range slices.Backward(t.Slots) { // a database before its sidecars
		if err := s.putBack(t, slot); err != nil {
			return err
		}
	}
	return syncTarget(t)
}

// moved tells whether anything of the target is not where it was.
func (t *Target) moved() (bool, error) {
	for _, slot := range t.Slots {
		at, err := inodeAt(t.dest(slot.Name))
		if err != nil {
			return false, err
		}
		if slot.InPlace && slot.Begun || slot.Old != nil && !at.sameInode(slot.Old) || at.sameInode(slot.New) && !slot.InPlace {
			return true, nil
		}
	}
	return false, nil
}

// takeBackOut removes from a slot what is not its old content.
func (s *session) takeBackOut(ctx context.Context, t *Target, slot *Slot) error {
	dest := t.dest(slot.Name)
	if slot.InPlace {
		return s.pourBack(ctx, t, slot)
	}
	at, err := inodeAt(dest)
	if err != nil || at == nil || at.sameInode(slot.Old) {
		return err
	}
	if at.sameInode(slot.New) {
		if same, err := unchanged(dest, slot.New); err != nil {
			return err
		} else if same {
			return move(dest, t.staged(slot.Name))
		}
	}
	return s.keep(t, dest)
}

func (s *session) pourBack(ctx context.Context, t *Target, slot *Slot) error {
	if !slot.Begun {
		return nil
	}
	if slot.Done {
		same, err := unchanged(t.dest(slot.Name), slot.New)
		if err != nil {
			return err
		}
		if !same {
			if err := s.keepCopy(ctx, t, t.dest(slot.Name)); err != nil {
				return err
			}
		}
		// From here on it may be torn again.
		slot.Done = false
		if err := s.write(); err != nil {
			return err
		}
	}
	return pour(ctx, t.dest(slot.Name), t.aside(slot.Name))
}

// putBack moves a slot's old content back into its place.
func (s *session) putBack(t *Target, slot *Slot) error {
	if slot.InPlace || slot.Old == nil {
		return nil
	}
	at, err := inodeAt(t.dest(slot.Name))
	if err != nil || at.sameInode(slot.Old) {
		return err
	}
	if usable, err := t.sidecarUsable(slot); err != nil {
		return err
	} else if !usable {
		return s.keep(t, t.aside(slot.Name))
	}
	return move(t.aside(slot.Name), t.dest(slot.Name))
}

// sidecarUsable is false for the sidecar of a database that never moved and was
// written to since: its frames would be replayed over newer pages.
func (t *Target) sidecarUsable(slot *Slot) (bool, error) {
	main, ok := mainOf(slot.Name)
	if !ok {
		return true, nil
	}
	db := t.slot(main)
	if db == nil || db.Old == nil || db.InPlace && db.Begun {
		return true, nil
	}
	return unchanged(t.dest(main), db.Old)
}
