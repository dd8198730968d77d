package snapshot

import (
	"errors"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/failure"
)

// Pin marks a snapshot so that prune keeps it, or takes the mark away. A
// snapshot that has no manifest of ours cannot carry the mark: it is adopted
// first (see Adopt). The caller holds the main lock.
func (s *Store) Pin(stamp Stamp, pinned bool) error {
	return s.editManifest("pin", stamp, func(m *Manifest) bool {
		changed := m.Pinned != pinned
		m.Pinned = pinned
		return changed
	})
}

// editManifest writes a snapshot's manifest anew when edit reports a change.
func (s *Store) editManifest(op string, stamp Stamp, edit func(*Manifest) (changed bool)) error {
	snap, err := s.Get(stamp)
	if err != nil {
		return err
	}
	if snap.Manifest == nil {
		return &failure.Error{Op: op, Subject: string(stamp), Kind: failure.Invalid,
			Err:  errors.New("it was made by AtoCore's own tools and has no manifest to carry the mark"),
			Hint: "nothing was changed; the next prune adopts it"}
	}
	if !edit(snap.Manifest) {
		return nil
	}
	if err := s.writeJSON(filepath.Join(snap.Path, ManifestFile), snap.Manifest); err != nil {
		return &failure.Error{
			Op:      op,
			Subject: string(stamp),
			Err:     err,
			Hint:    "this process must be able to write into the snapshot's directory",
		}
	}
	return nil
}
