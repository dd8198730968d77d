package snapshot

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// Store is the directory that holds the snapshots of this machine.
type Store struct {
	dir   string
	locks string // where the lock files lie; see KeepLocksIn
}

// Open returns the store at dir, prepared.
func Open(dir string) (*Store, error) {
	s, err := OpenExisting(dir)
	if err == nil {
		err = s.Prepare()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Prepare makes the store's directories where they are missing, and checks that a
// finished snapshot can be renamed into place. It may be called again at any time.
func (s *Store) Prepare() error {
	if err := s.checkOwnDirs(); err != nil {
		return err
	}
	for _, sub := range []string{s.snapshots(), s.staging(), s.quarantine()} {
		if err := fsx.MkdirAll(sub, 0o750); err != nil {
			return &failure.Error{Op: "backup.dir", Subject: s.dir, Kind: failure.Config, Err: err,
				Hint: "make the directory, owned by the user that atobackupd runs as"}
		}
	}
	return s.checkPlace()
}

// Check finds out, of the directories that are there, what Prepare would. It makes
// nothing.
func (s *Store) Check() error {
	if err := s.checkOwnDirs(); err != nil {
		return err
	}
	if err := s.checkPlace(); !fsx.IsMissing(err) {
		return err
	}
	return nil
}

// checkPlace finds out whether what is staged can be renamed into place. A
// rename ends at a mount, also at a bind mount of the same file system, and at
// a btrfs subvolume, which is no mount but has a device number of its own.
func (s *Store) checkPlace() error {
	for _, sub := range []string{s.snapshots(), s.quarantine()} {
		same, err := sameMount(s.staging(), sub)
		if err != nil {
			return &failure.Error{
				Op:      "backup.dir",
				Subject: s.dir,
				Kind:    failure.Config,
				Err:     err,
				Hint:    "is its disk mounted?",
			}
		}
		if !same {
			return &failure.Error{Op: "backup.dir", Subject: s.dir, Kind: failure.Config,
				Err: fmt.Errorf(
					"staging/ and %s/ lie on different file systems or mounts, so that a finished snapshot cannot "+
						"be renamed into place",
					filepath.Base(sub),
				),
				Hint: "mount the backup directory as a whole"}
		}
	}
	return nil
}

func sameMount(a, b string) (bool, error) {
	var mounts, devices [2]uint64
	for i, dir := range []string{a, b} {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return false, err
		}
		if mounts[i], err = fsx.MountID(dir); err != nil {
			return false, err
		}
		if devices[i], err = fsx.Device(dir); err != nil {
			return false, err
		}
	}
	return mounts[0] == mounts[1] && devices[0] == devices[1], nil
}

// OpenExisting returns the store at dir for reading; it makes nothing, and finds out
// nothing. A directory that is not there is a store with no snapshots: List warns
// about it.
func OpenExisting(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir) // what is recorded of a snapshot outlives this process
	return &Store{dir: dir}, err
}

// Dir is the store's own directory.
func (s *Store) Dir() string { return s.dir }

// Path is where the snapshot named stamp lies, whether it exists or not.
func (s *Store) Path(stamp Stamp) string { return filepath.Join(s.snapshots(), string(stamp)) }

func (s *Store) snapshots() string  { return filepath.Join(s.dir, "snapshots") }
func (s *Store) staging() string    { return filepath.Join(s.dir, "staging") }
func (s *Store) quarantine() string { return filepath.Join(s.dir, "quarantine") }

// Lock takes the main lock, which take, prune, restore and sync-prune hold one
// at a time. See fsx.LockFile for waiting and timeout.
func (s *Store) Lock(
	ctx context.Context,
	purpose string,
	timeout time.Duration,
	waiting func(holder string),
) (*fsx.Lock, error) {
	return fsx.LockFile(ctx, filepath.Join(s.dir, ".lock"), purpose, timeout, waiting)
}
