package snapshot

import (
	"errors"
	"os"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// Delete removes a published snapshot: renamed to staging/ first, so that an
// interrupted removal leaves no half snapshot, and only while nobody reads it
// (kind Locked otherwise). When only the removal fails, the snapshot is gone and
// the next Sweep takes what is left. The caller holds the main lock.
func (s *Store) Delete(stamp Stamp) error {
	lock, ok, err := s.lockPublished(stamp, true)
	if err != nil {
		return err
	}
	if !ok {
		return &failure.Error{
			Op:      "prune",
			Subject: string(stamp),
			Kind:    failure.Locked,
			Err:     errors.New("it is being read"),
			Hint:    "the next prune will look again",
		}
	}
	defer lock.Unlock()
	failed := func(err error, hint string) error {
		return &failure.Error{Op: "prune", Subject: string(stamp), Err: err, Hint: hint}
	}
	aside, err := fsx.MkdirTemp(s.staging(), string(stamp)+".prune-", 0o700)
	if err != nil {
		return failed(err, stagingHint)
	}
	// A rename may replace an empty directory.
	err = fsx.Rename(s.Path(stamp), aside)
	if err != nil && exists(s.Path(stamp)) {
		_ = os.Remove(aside)
		return failed(err, "this process must be able to write the snapshot's directory and the one above it")
	}
	if err := errors.Join(err, s.dropLock(stamp), fsx.RemoveAll(aside)); err != nil {
		return failed(err, "it is no longer listed; what is left in staging/ goes with the next backup")
	}
	return nil
}
