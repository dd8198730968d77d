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
	snap, err := s.Get(stamp)
	if err != nil {
		return err
	}
	if snap.Manifest == nil {
		return &failure.Error{Op: "pin", Subject: string(stamp), Kind: failure.Invalid,
			Err: errors.New("it was made by AtoCore's own tools and has no manifest to carry the mark"), Hint: "it is not pinned; the next prune adopts it"}
	}
	if snap.Manifest.Pinned == pinned {
		return nil
	}
	snap.Manifest.Pinned = pinned
	if err := s.writeJSON(filepath.Join(snap.Path, ManifestFile), snap.Manifest); err != nil {
		return &failure.Error{Op: "pin", Subject: string(stamp), Err: err, Hint: "this process must be able to write into the snapshot's directory"}
	}
	return nil
}
