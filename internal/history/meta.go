package history

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// startedOver is when the file took the place of one that was lost or damaged.
const startedOver = "started_over"

// NoteStartedOver records that what was remembered before is lost. The first
// time counts.
func (d *DB) NoteStartedOver(ctx context.Context, at time.Time) error {
	_, err := d.exec(ctx, "INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", startedOver, at.UnixMilli())
	return err
}

// StartedOver returns when the file took the place of one that was lost or
// damaged; false when it never did.
func (d *DB) StartedOver(ctx context.Context) (time.Time, bool, error) {
	return one(ctx, d, scanTime, "SELECT value FROM meta WHERE name = ?", startedOver)
}

// FirstKnown returns when anything was first recorded; false when nothing was.
func (d *DB) FirstKnown(ctx context.Context) (time.Time, bool, error) {
	at, ok, err := one(ctx, d, scanTime, "SELECT min(at) FROM (SELECT min(first_start) AS at FROM slots UNION ALL "+
		"SELECT min(started_at) FROM runs)")
	return at, ok && !at.IsZero(), err
}

// Empty reports whether nothing was ever recorded.
func (d *DB) Empty(ctx context.Context) (bool, error) {
	_, ok, err := d.FirstKnown(ctx)
	return !ok, err
}

// isInPlace reports whether the file that is open lies at its path. One that was
// emptied there holds nothing any more, as if it had been removed.
func (d *DB) isInPlace() bool {
	if d.path == "" {
		return true
	}
	info, err := os.Stat(d.path)
	return err == nil && inode(info) == d.inode && info.Size() > 0
}

// Renew opens the file at the history's path once more, or begins a new one, where the
// one that is open was removed or replaced under a process: that one takes everything
// and keeps nothing. It reports whether it did. What was written since is lost, and so
// is what was under way. One that could only be read is opened once more to be written;
// that loses nothing.
func (d *DB) Renew(ctx context.Context) (renewed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	same := d.isInPlace()
	if same && !d.readOnly {
		return false, nil
	}
	if _, err := os.Stat(filepath.Dir(d.path)); err != nil {
		return false, openError(d.path, err) // its disk is away: nothing is made in its place
	}
	fresh, err := Open(ctx, d.path)
	if err != nil {
		return false, err
	}
	return !same, d.become(fresh)
}

// Renewals returns how often the file was renewed: what IDs mean has changed since.
func (d *DB) Renewals() int64 { return d.renewals.Load() }

func inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// place notes where the file lies that was opened.
func (d *DB) place(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	d.path, d.inode = path, inode(info)
	return nil
}
