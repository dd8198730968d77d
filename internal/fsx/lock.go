package fsx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

// Lock is a flock(2) on a file or directory. The kernel drops it when its
// holder dies, so there are no stale locks.
type Lock struct {
	f       *os.File
	written bool
}

// lockPoll is how often a waiting process looks again.
const lockPoll = 100 * time.Millisecond

// LockFile takes the exclusive lock on the file at path, making it when it is
// missing, and writes into it who holds it: pid and purpose, for the people who
// wait. When another process has it, waiting is called once with the holder's
// words (nil is allowed), and after timeout the error is of kind Locked. A
// timeout of zero does not wait.
func LockFile(
	ctx context.Context,
	path, purpose string,
	timeout time.Duration,
	waiting func(holder string),
) (*Lock, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(timeout)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		holder := LockHolder(path)
		if waiting != nil && timeout > 0 {
			waiting(holder)
			waiting = nil
		}
		if !time.Now().Before(deadline) {
			f.Close()
			return nil, &failure.Error{Op: "lock", Subject: path, Kind: failure.Locked,
				Err: fmt.Errorf("held by %s", holder), Hint: "wait for it to finish, or raise --lock-timeout"}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
	text := fmt.Sprintf("pid %d (%s)\n", os.Getpid(), purpose)
	if err := f.Truncate(0); err == nil {
		// Only words for people: the lock holds without them.
		_, _ = f.WriteAt([]byte(text), 0)
	}
	return &Lock{f: f, written: true}, nil
}

// openLock opens a lock file, which an administrator's root shell may have made, or
// which lies on a disk that is mounted read-only: then it can only be read, which is
// enough to lock it, but not to write into it.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		if readable, readErr := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0); readErr == nil {
			return readable, nil
		}
	}
	return f, err
}

// mostHolder bounds what is read of a lock file.
const mostHolder = 4096

// LockHolder returns what the holder of a lock file wrote into it, for people.
func LockHolder(path string) string {
	data, err := ReadRegular(path, mostHolder)
	if holder := strings.TrimSpace(string(data)); err == nil && holder != "" {
		return holder
	}
	return "another process"
}

// LockOpen takes a lock on an open file without waiting: shared for those who read
// what it stands for, exclusive for the one who is about to remove that. ok is false
// when somebody else's lock is in the way. The file is the lock's to close, whatever
// comes of it.
func LockOpen(f *os.File, exclusive bool) (lock *Lock, ok bool, err error) {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
	case err == nil:
		return &Lock{f: f}, true, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, false, nil
	default:
		f.Close()
		return nil, false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
}

// Unlock lets go. It may be called on nil and more than once. Closing alone would
// leave the lock to a process that is being started just now: until its exec it has
// a copy of every descriptor.
func (l *Lock) Unlock() {
	if l == nil || l.f == nil {
		return
	}
	if l.written {
		_ = l.f.Truncate(0)
	}
	_ = unix.Flock(int(l.f.Fd()), unix.LOCK_UN)
	l.f.Close()
	l.f = nil
}
