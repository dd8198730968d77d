package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite"

	"github.com/atocore/atobackupd/internal/fsx"
)

// errDamaged is what the quick check finds and SQLite itself had not noticed.
var errDamaged = errors.New("the file is damaged")

// isDamage tells damage from an error that may pass, such as a full disk.
func isDamage(err error) bool {
	const corrupt, notDatabase = 11, 26 // SQLITE_CORRUPT, SQLITE_NOTADB
	if found, ok := errors.AsType[*sqlite.Error](err); ok {
		primary := found.Code() & 0xff
		return primary == corrupt || primary == notDatabase
	}
	return errors.Is(err, errDamaged)
}

func (d *DB) quickCheck(ctx context.Context) error {
	var verdict string
	if err := d.db().QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	return nil
}

// openWhole opens the file while nobody can move it aside: a connection to a
// file that is moved in between fails in ways that look like a broken disk.
func openWhole(ctx context.Context, path string) (db *DB, err error) {
	unlock, err := lockDir(path, syscall.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return openWritable(ctx, path)
}

// lockDir locks the directory of path against other processes.
func lockDir(path string, how int) (unlock func() error, err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(dir.Fd()), how); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the directory: %w", err), dir.Close())
	}
	return dir.Close, nil
}

// startOver moves the damaged file at path aside and opens a new one. Several
// processes may find the damage at once: a lock on the directory lets one of
// them move it, and the others find the new file.
func startOver(ctx context.Context, path string) (db *DB, err error) {
	unlock, err := lockDir(path, syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if db, err = openWritable(ctx, path); !isDamage(err) {
		return db, err
	}
	return replace(ctx, path, ".corrupt-")
}

// replace moves the file at path aside and opens a new one. The caller holds the lock
// on the directory.
func replace(ctx context.Context, path, suffix string) (*DB, error) {
	aside, err := moveAside(path, suffix, time.Now())
	if err != nil {
		return nil, err
	}
	if err := fsx.SyncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	db, err := openWritable(ctx, path)
	if err != nil {
		return nil, err
	}
	db.aside = aside
	if err := db.NoteStartedOver(ctx, time.Now()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// moveAside renames the file and what lies beside it. The journal goes first:
// left behind, SQLite would roll it back into the new file of its name.
func moveAside(path, suffix string, now time.Time) (string, error) {
	aside := path + suffix + now.UTC().Format("20060102T150405Z")
	for exists(aside) {
		aside += "+"
	}
	for _, suffix := range []string{"-journal", "-wal", "-shm", ""} {
		err := os.Rename(path+suffix, aside+suffix)
		if err != nil && !(suffix != "" && errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	return aside, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
