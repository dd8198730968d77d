package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Whether the history can be written is found out by whoever asks, and without writing:
// a command that only looks may be run by somebody who may not write there, which says
// nothing about the service.

// canGrow fails where a file in a directory cannot become larger: its disk is
// full, or is mounted to be read only.
func canGrow(dir string) error {
	var s unix.Statfs_t
	switch err := unix.Statfs(dir, &s); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it is made when it is first needed
	case err != nil:
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	case s.Flags&unix.ST_RDONLY != 0:
		return &fs.PathError{Op: "write", Path: dir, Err: unix.EROFS}
	case int64(s.Bavail)*s.Bsize < historyRoom:
		return &fs.PathError{Op: "write", Path: dir, Err: unix.ENOSPC}
	}
	return nil
}

// historyRoom is what the next records need at most.
const historyRoom = 256 << 10

// checkWritable fails where the owner of a file's directory, who keeps the file, cannot
// write it, or make a journal beside it.
func checkWritable(path string) error {
	dir := filepath.Dir(path)
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return nil // what cannot be looked at, reading tells
	}
	keeper := int(s.Uid)
	for _, p := range []string{dir, path} {
		if err := refusesWrites(p, keeper); err != nil {
			return &fs.PathError{Op: "write", Path: p, Err: err}
		}
	}
	return nil
}

// refusesWrites returns why a user cannot write a file or directory; nil where he can,
// where there is none, and where whoever asks cannot know.
func refusesWrites(path string, user int) error {
	err := unix.Access(path, unix.W_OK)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS) {
		return err // it cannot be changed, or its mount can only be read, whoever asks
	}
	if errors.Is(err, unix.EACCES) && os.Geteuid() == user {
		return err
	}
	var mount unix.Statfs_t
	if err := unix.Statfs(path, &mount); err == nil && mount.Flags&unix.ST_RDONLY != 0 {
		return unix.EROFS
	}
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS, &x); err != nil {
		return nil
	}
	const fixed = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	if x.Attributes&fixed != 0 {
		return unix.EPERM
	}
	if os.Geteuid() != user && !modeAllows(x.Mode, int(x.Uid), user) {
		return unix.EACCES
	}
	return nil
}

// modeAllows reports whether the mode of a file lets a user write it. Which groups he is
// in, and whom an access list names, is not asked: a group that may write may be his.
func modeAllows(mode uint16, owner, user int) bool {
	switch {
	case user == 0:
		return true
	case user == owner:
		return mode&0o200 != 0
	}
	return mode&0o022 != 0
}

// hintToWrite says what helps where a file cannot be written; "" for making room.
func hintToWrite(path string, err error) string {
	at, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok:
	case errors.Is(err, unix.EPERM):
		return fmt.Sprintf("see `lsattr -d %s`, and let it be changed: chattr -ia %s", at.Path, at.Path)
	case errors.Is(err, unix.EROFS):
		return fmt.Sprintf("see `findmnt -T %s`, and mount it to be written", at.Path)
	case errors.Is(err, unix.EACCES) && at.Path == path:
		return fmt.Sprintf("let the service's user write it: chown --reference=%s %s && chmod u+rw %s",
			filepath.Dir(path), path, path)
	}
	return ""
}

// historyIsGone reports whether there was a history and there is none: the file is
// missing, or there is nothing in it and nobody has begun it anew.
func (a *App) historyIsGone(ctx context.Context, startedOver time.Time) bool {
	info, err := os.Stat(a.historyPath())
	if err != nil || info.Size() == 0 {
		return true
	}
	if !startedOver.IsZero() {
		return false
	}
	empty, err := a.history.Empty(ctx)
	a.NoteHistoryError(err)
	return err == nil && empty
}
