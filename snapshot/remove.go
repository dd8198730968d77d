package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Sweep removes what interrupted runs left in staging/, and goes on when one of
// them cannot be removed. The caller holds the main lock: only then is everything
// there abandoned.
func (s *Store) Sweep() (removed []string, err error) { return s.SweepBeside("") }

// SweepBeside is Sweep that also removes the subvolume snapshots that a take
// left beside the live Chroma directory, which may be "".
func (s *Store) SweepBeside(liveChroma string) (removed []string, err error) {
	volumes, volumesErr := chroma.SweepBtrfs(liveChroma, s.staging())
	removed, err = removeEntries(s.staging(), func(string) bool { return true })
	return append(volumes, removed...), errors.Join(volumesErr, err)
}

// SweepQuarantine removes what has been in quarantine/ for longer than keep.
func (s *Store) SweepQuarantine(now time.Time, keep time.Duration) (removed []string, err error) {
	return removeEntries(s.quarantine(), func(name string) bool {
		stamp, err := ParseStamp(name)
		return err == nil && now.Sub(stamp.Time()) > keep
	})
}

func removeEntries(dir string, which func(name string) bool) (removed []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		if !which(entry.Name()) {
			continue
		}
		if removeErr := fsx.RemoveAll(filepath.Join(dir, entry.Name())); removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		removed = append(removed, entry.Name())
	}
	return removed, err
}

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
		return &failure.Error{Op: "prune", Subject: string(stamp), Kind: failure.Locked, Err: errors.New("it is being read"), Hint: "the next prune will look again"}
	}
	defer lock.Unlock()
	failed := func(err error, hint string) error {
		return &failure.Error{Op: "prune", Subject: string(stamp), Err: err, Hint: hint}
	}
	aside, err := fsx.MkdirTemp(s.staging(), string(stamp)+".prune-*", 0o700)
	if err != nil {
		return failed(err, stagingHint)
	}
	// A rename may replace an empty directory.
	err = fsx.Rename(s.Path(stamp), aside)
	if err != nil && exists(s.Path(stamp)) {
		_ = os.Remove(aside)
		return failed(err, "this process must be able to write the snapshot's directory and the one above it")
	}
	if err := errors.Join(err, fsx.RemoveAll(aside)); err != nil {
		return failed(err, "it is no longer listed; what is left in staging/ goes with the next backup")
	}
	return nil
}
