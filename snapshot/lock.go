package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// KeepLocksIn has the lock files of snapshots lie in dir, which is made when it is
// needed: where only the service and root can open them. Whoever could open one
// could hold it for ever, and nothing would be pruned. The default is a private
// directory beside the snapshots.
func (s *Store) KeepLocksIn(dir string) { s.locks = dir }

func (s *Store) lockDir() string {
	if s.locks != "" {
		return s.locks
	}
	return filepath.Join(s.dir, ".locks")
}

// LockShared takes the shared lock on a snapshot that keeps prune away from it. Who
// reads a snapshot for long holds it meanwhile. One who may not open the lock files
// reads without: prune may then remove what is being read.
func (s *Store) LockShared(stamp Stamp) (*fsx.Lock, error) {
	for deadline := time.Now().Add(holdPatience); ; time.Sleep(holdPoll) {
		lock, ok, err := s.lockPublished(stamp, false)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			return nil, nil
		}
		if err != nil || ok {
			return lock, err
		}
		if time.Now().After(deadline) {
			return nil, &failure.Error{
				Op:      "lock",
				Subject: string(stamp),
				Kind:    failure.Locked,
				Err:     errors.New("it is being pruned"),
				Hint:    "try again in a moment",
			}
		}
	}
}

// An exclusive lock on a published snapshot lasts no longer than a rename, or
// than somebody's question whether it is in use. LockShared sits that out.
const (
	holdPatience = 2 * time.Second
	holdPoll     = 10 * time.Millisecond
)

// InUse reports whether somebody is reading a snapshot: whether it cannot be locked
// for a moment.
func (s *Store) InUse(stamp Stamp) bool {
	lock, ok, err := s.lockPublished(stamp, true)
	lock.Unlock()
	return err == nil && !ok
}

// lockPublished locks the snapshot that the stamp names now: not one that was
// renamed away between the look and the lock.
func (s *Store) lockPublished(stamp Stamp, exclusive bool) (lock *fsx.Lock, ok bool, err error) {
	before, err := os.Lstat(s.Path(stamp))
	if err == nil && !before.IsDir() {
		return nil, false, s.missing(stamp)
	}
	if err == nil {
		lock, ok, err = s.lockFile(stamp, exclusive)
	}
	if ok {
		var after os.FileInfo
		if after, err = os.Lstat(s.Path(stamp)); err == nil && !os.SameFile(before, after) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		lock.Unlock()
		if errors.Is(err, fs.ErrNotExist) {
			err = s.missing(stamp)
		}
		return nil, false, err
	}
	return lock, ok, nil
}

func lockName(stamp Stamp) string { return string(stamp) + ".lock" }

// openLocks opens the directory of the lock files. What root makes there is its
// owner's: the service locks the same files.
func (s *Store) openLocks() (*tree.Dir, error) {
	above, name := filepath.Split(s.lockDir())
	parent, err := tree.OpenOrMake(filepath.Clean(above), tree.Trusted(above), 0o700)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if _, err := parent.GiveToOwner(); err != nil {
		return nil, err
	}
	return parent.MkdirAll(name, 0o700)
}

// lockFile locks a snapshot's lock file, and has it made where it is missing.
func (s *Store) lockFile(stamp Stamp, exclusive bool) (*fsx.Lock, bool, error) {
	dir, err := s.openLocks()
	if err != nil {
		return nil, false, err
	}
	defer dir.Close()
	for {
		f, err := dir.OpenFile(lockName(stamp))
		if errors.Is(err, fs.ErrNotExist) {
			f, err = dir.Create(lockName(stamp), 0o600)
		}
		if errors.Is(err, fs.ErrExist) {
			continue // somebody else made it in between
		}
		if err != nil {
			return nil, false, err
		}
		info, err := tree.FileInfo(f)
		if err != nil {
			f.Close()
			return nil, false, err
		}
		lock, ok, err := fsx.LockOpen(f, exclusive)
		if !ok || err != nil {
			return nil, false, err
		}
		if dir.Expect(lockName(stamp), info.ID) == nil {
			return lock, true, nil
		}
		lock.Unlock() // it was removed with its snapshot in between
	}
}

// dropLock removes the lock file of a snapshot that is gone. The caller holds it.
func (s *Store) dropLock(stamp Stamp) error {
	dir, err := s.openLocks()
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Remove(lockName(stamp))
}

// missing is the error for a stamp that names no published snapshot.
func (s *Store) missing(stamp Stamp) error {
	return &failure.Error{Op: "snapshot", Subject: string(stamp), Kind: failure.NotFound,
		Err: fmt.Errorf("no such snapshot in %s", s.snapshots()), Hint: "see `atobackupd list`"}
}
