// Package history remembers what happened, in one SQLite file: slots, runs,
// checks, drills, pushes, alarms. The daemon and short commands write to it at
// once.
//
// Backups do not depend on it. A damaged file is moved aside and a new one
// started, and what was in it is gone: slots count from then, alarms are raised
// again. A caller that cannot open it at all goes on with Volatile.
//
// The file is in rollback-journal mode and not WAL. A few rows are written a
// day, so speed is nothing; but a file without WAL has no sidecars that a
// command run by root could leave behind with the wrong owner, and whoever may
// only read it can do so, also from a read-only mount. Commits are durable
// when a method returns (synchronous=EXTRA: with FULL the deletion of the
// journal, which is the commit, may be lost in a power cut).
//
// Times are stored as milliseconds since 1970 in UTC, integers: they compare
// and sort as what they are, and need no parser. In the sqlite3 shell:
// datetime(started_at/1000, 'unixepoch').
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/atocore/atobackupd/internal/failure"

	"modernc.org/sqlite" // the driver too
)

// DB is an open history. Its methods may be called from any goroutine.
type DB struct {
	open     atomic.Pointer[sql.DB]
	renewals atomic.Int64
	aside    string

	mu       sync.Mutex // held while another file is opened
	path     string     // "" for one in memory
	inode    uint64     // of the file that is open
	readOnly bool
}

func (d *DB) db() *sql.DB { return d.open.Load() }

// busyTimeout is how long a writer waits for another process, in milliseconds.
const busyTimeout = "15000"

var readOnly = url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(" + busyTimeout + ")"}}

// Open opens the history at path for reading and writing. It makes the file
// (mode 0600) and its directory (0700) when they are missing, and brings an
// older file up to date. A file written by a newer version is refused. A
// damaged one is moved aside (see MovedAside) and a new one started.
func Open(ctx context.Context, path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, openError(path, err)
	}
	db, err := openWhole(ctx, path)
	if isDamage(err) {
		db, err = startOver(ctx, path)
	}
	if err != nil {
		return nil, openError(path, err)
	}
	return db, nil
}

// OpenReadOnly opens an existing history for reading, also where the file or
// its directory cannot be written. It changes nothing on disk, and methods that
// write fail. A missing file is fs.ErrNotExist. What an older version wrote is read
// from a copy in memory that is brought up to date: between an upgrade and the
// daemon's start nothing that was found out before may be forgotten.
func OpenReadOnly(ctx context.Context, path string) (*DB, error) {
	if err := checkFile(path); err != nil {
		return nil, openError(path, err)
	}
	db, err := openForReading(ctx, path)
	if err != nil {
		return nil, openError(path, err)
	}
	if err := db.place(path); err != nil {
		return nil, openError(path, errors.Join(err, db.Close()))
	}
	db.readOnly = true
	return db, nil
}

// openForReading returns the file itself, or the copy of an older one.
func openForReading(ctx context.Context, path string) (*DB, error) {
	db, err := connect(path, readOnly)
	if err != nil {
		return nil, err
	}
	version, err := db.version(ctx, db.db())
	if err == nil && version == len(migrations) {
		return db, nil
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	return migratedCopy(ctx, path)
}

// migratedCopy returns a copy in memory, which can only be read.
func migratedCopy(ctx context.Context, path string) (db *DB, err error) {
	if db, err = connect(":memory:", url.Values{"_txlock": {"immediate"}}); err != nil {
		return nil, err
	}
	if err = db.load(ctx, path); err == nil {
		err = db.migrate(ctx)
	}
	if err == nil {
		_, err = db.db().ExecContext(ctx, "PRAGMA query_only = 1")
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// load fills an empty database with what a file holds.
func (d *DB) load(ctx context.Context, path string) error {
	conn, err := d.db().Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(raw any) error {
		from, err := raw.(interface {
			NewRestore(string) (*sqlite.Backup, error)
		}).NewRestore(source(path, readOnly))
		if err != nil {
			return err
		}
		_, err = from.Step(-1)
		return errors.Join(err, from.Finish())
	})
}

// Volatile returns an empty history that lives in memory and is lost on Close,
// for a daemon whose disk allows no other.
func Volatile(ctx context.Context) (*DB, error) {
	db, err := connect(":memory:", url.Values{"_txlock": {"immediate"}})
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// MovedAside returns the path to which Open moved a damaged file; "" when it
// found none.
func (d *DB) MovedAside() string { return d.aside }

// Close closes the file.
func (d *DB) Close() error { return d.db().Close() }

// openWritable opens the file, checks that it is sound, and migrates it.
func openWritable(ctx context.Context, path string) (*DB, error) {
	if err := makeFile(path); err != nil {
		return nil, err
	}
	db, err := connect(path, url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(" + busyTimeout + ")", "journal_mode(delete)", "synchronous(extra)",
	}})
	if err != nil {
		return nil, err
	}
	if err := db.quickCheck(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := errors.Join(db.migrate(ctx), db.place(path)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// connect returns a handle of one connection: a process has no use for more, and
// with one it never waits for itself.
func connect(path string, options url.Values) (*DB, error) {
	db, err := sql.Open("sqlite", source(path, options))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	d := &DB{}
	d.open.Store(db)
	return d, nil
}

// source names a file to SQLite.
func source(path string, options url.Values) string {
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: options.Encode()}
	return name.String()
}

// makeFile makes an empty file, which is an empty database, with the mode that
// SQLite would not set. An existing one is not opened here: closing it
// again would drop the locks that this process holds on it through SQLite.
func makeFile(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return checkFile(path)
	}
	if err != nil {
		return err
	}
	return file.Close()
}

func checkFile(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	return err
}

func openError(path string, err error) error {
	if newer, ok := errors.AsType[*newerError](err); ok {
		return &failure.Error{Op: "history refused", Subject: path, Kind: failure.Config, Err: newer,
			Hint: "upgrade atobackupd, or move the file away to start a new one"}
	}
	return &failure.Error{Op: "open history", Subject: path, Err: err}
}

// newerError says that the file was written by a later version.
type newerError struct{ version int }

func (e *newerError) Error() string {
	return fmt.Sprintf("it was written by a newer atobackupd (schema %d, this one knows %d)", e.version,
		len(migrations))
}
