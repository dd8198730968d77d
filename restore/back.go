package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// back brings every set from wherever it is to all old. It may be repeated from
// any point, and followed by forward. It goes on with the others when one fails:
// a registry that cannot be put back is no reason to leave the database new.
func (s *session) back(ctx context.Context) error {
	s.progress.Tell("swap back", 0, 0)
	var all []error
	for _, t := range slices.Backward(s.Sets) {
		if err := s.backSet(ctx, t); err != nil {
			all = append(all, fmt.Errorf("put %s back: %w", t.Artifact, err))
		}
	}
	return errors.Join(all...)
}

func (s *session) backSet(ctx context.Context, t *swapSet) error {
	if t.live == nil {
		return errNoWorkspace
	}
	moved, err := t.moved()
	if err != nil || !moved {
		// Nothing has been exchanged: whatever stands there now belongs there,
		// also what a service has added since.
		return err
	}
	for _, e := range slices.Backward(t.Entries) {
		if err := s.moveNewOut(ctx, t, e); err != nil {
			return err
		}
	}
	if err := s.setAsideUnknown(t); err != nil {
		return err
	}
	if err := t.sync(); err != nil {
		return err
	}
	if t.Leaves {
		if err := t.makeDirs(t.old); err != nil {
			return err
		}
	}
	for _, e := range slices.Backward(t.Entries) { // a database before its sidecars
		if err := s.moveOldBack(t, e); err != nil {
			return err
		}
	}
	if t.Leaves {
		if err := t.matchDirs(t.old); err != nil {
			return err
		}
	}
	if t.Root != nil {
		if err := t.setRoot(t.Root.Old, s.keepOwner); err != nil {
			return err
		}
	}
	return t.sync()
}

// moved reports whether anything of the set is not where it was.
func (t *swapSet) moved() (bool, error) {
	for _, e := range t.Entries {
		at, err := inodeAt(t.live, e.Name)
		if err != nil {
			return false, err
		}
		if e.InPlace && e.Begun || e.Old != nil && !at.sameInode(e.Old) || at.sameInode(e.New) && !e.InPlace {
			return true, nil
		}
	}
	return false, nil
}

// moveNewOut removes from an entry's name what is not its old content.
func (s *session) moveNewOut(ctx context.Context, t *swapSet, e *swapEntry) error {
	if e.InPlace {
		return s.overwriteBack(ctx, t, e)
	}
	at, err := inodeAt(t.live, e.Name)
	if err != nil || at == nil || at.sameInode(e.Old) {
		return err
	}
	if at.sameInode(e.New) {
		if same, err := unchanged(t.live, e.Name, e.New); err != nil {
			return err
		} else if same {
			if err := t.roomFor(t.fresh, e.Name); err != nil {
				return err
			}
			return t.live.Rename(e.Name, t.fresh, e.Name, tree.NoReplace)
		}
	}
	return s.setAside(t, t.live, e.Name)
}

func (s *session) overwriteBack(ctx context.Context, t *swapSet, e *swapEntry) error {
	if !e.Begun {
		return nil
	}
	if same, err := sameBytes(ctx, t.live, t.old, e.Name); err != nil || same {
		return err // it was never written, or is put back already: a read-only mount is no obstacle
	}
	if e.Done {
		same, err := unchanged(t.live, e.Name, e.New)
		if err != nil {
			return err
		}
		if !same {
			if err := s.setCopyAside(ctx, t, e.Name); err != nil {
				return err
			}
		}
		// From here on it may be torn again.
		e.Done = false
		if err := s.write(); err != nil {
			return err
		}
	}
	return overwriteInPlace(ctx, t.live, e.Name, t.old)
}

// sameBytes reports whether a file is the same in two directories.
func sameBytes(ctx context.Context, a, b *tree.Dir, name string) (bool, error) {
	infoA, err := a.Lstat(name)
	if err != nil {
		return false, err
	}
	infoB, err := b.Lstat(name)
	if err != nil || infoA.Size != infoB.Size {
		return false, err
	}
	sumA, err := digest(ctx, a, name, nil)
	if err != nil {
		return false, err
	}
	sumB, err := digest(ctx, b, name, nil)
	return sumA == sumB, err
}

// moveOldBack moves an entry's old content back into its place.
func (s *session) moveOldBack(t *swapSet, e *swapEntry) error {
	if e.InPlace || e.Old == nil {
		return nil
	}
	at, err := inodeAt(t.live, e.Name)
	if err != nil || at.sameInode(e.Old) {
		return err
	}
	if usable, err := t.sidecarUsable(e); err != nil {
		return err
	} else if !usable {
		return s.setAside(t, t.old, e.Name)
	}
	return t.old.Rename(e.Name, t.live, e.Name, tree.NoReplace)
}

// sidecarUsable is false for the sidecar of a database that never moved and was
// written to since: its frames would be replayed over newer pages.
func (t *swapSet) sidecarUsable(e *swapEntry) (bool, error) {
	main, ok := sidecarOf(e.Name)
	if !ok {
		return true, nil
	}
	db := t.entry(main)
	if db == nil || db.Old == nil || db.InPlace && db.Begun {
		return true, nil
	}
	return unchanged(t.live, main, db.Old)
}
