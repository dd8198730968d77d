package history

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// Names in meta that say what the file is about.
const (
	// backupDir is the number of the backup directory whose history this is.
	backupDir = "backup_dir"
	// tookForeign is when the file took the place of another backup directory's.
	tookForeign = "took_foreign"
)

// BackupDir returns the number of the backup directory that the history is about; 0
// where none was noted.
func (d *DB) BackupDir(ctx context.Context) (int64, error) {
	id, _, err := one(ctx, d, scanNumber, "SELECT value FROM meta WHERE name = ?", backupDir)
	return id, err
}

// NoteBackupDir records which backup directory the history is about, and returns what
// is recorded: of several processes that come at once the first one counts.
func (d *DB) NoteBackupDir(ctx context.Context, id int64) (int64, error) {
	if _, err := d.exec(ctx, "INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", backupDir, id); err != nil {
		return 0, err
	}
	return d.BackupDir(ctx)
}

// TookForeign reports whether the file took the place of one that was about another
// backup directory.
func (d *DB) TookForeign(ctx context.Context) (bool, error) {
	_, ok, err := one(ctx, d, scanNumber, "SELECT value FROM meta WHERE name = ?", tookForeign)
	return ok, err
}

// Volatile reports whether what is recorded now is lost on Close.
func (d *DB) Volatile() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inode == 0
}

// BeginAnew moves the file aside, which is about another backup directory, and goes on
// in a new one. It returns where the old one lies; "" where another process has moved
// it before, and Renew finds the new one.
func (d *DB) BeginAnew(ctx context.Context) (aside string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	unlock, err := lockDir(d.path, syscall.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if !d.isInPlace() {
		return "", nil
	}
	fresh, err := replace(ctx, d.path, ".foreign-")
	if err != nil {
		return "", err
	}
	_, err = fresh.exec(ctx, "INSERT INTO meta (name, value) VALUES (?, ?)", tookForeign, time.Now().UnixMilli())
	return fresh.aside, errors.Join(err, d.become(fresh))
}

// Disregard goes on with an empty history in memory, for what the file says is about
// another backup directory. The file stays as it is.
func (d *DB) Disregard(ctx context.Context) error {
	empty, err := Volatile(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.become(empty)
}

// become goes on in another file than before. The caller holds the lock.
func (d *DB) become(other *DB) error {
	d.inode, d.readOnly = other.inode, other.readOnly
	d.renewals.Add(1)
	return d.open.Swap(other.db()).Close()
}

func scanNumber(r row) (n int64, err error) {
	err = r.Scan(&n)
	return n, err
}
