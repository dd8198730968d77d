package chroma

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// locked copies under SQLite's write lock on the live database, and returns how
// long it was held. reason is why the copy could not be made without it.
func (l *live) locked(ctx context.Context, o Options, reason string) (held time.Duration, err error) {
	deadline := o.LockDeadline
	if deadline <= 0 {
		deadline = DefaultLockDeadline
	}
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	lock, err := lockWrites(bounded, l.from, deadline)
	if err == nil {
		since := time.Now()
		err = errors.Join(l.underLock(bounded, lock), lock.release())
		held = time.Since(since)
	}
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return held, &failure.Error{
			Op:      "chroma",
			Subject: l.src.Path(),
			Err:     fmt.Errorf("no copy under the write lock within %s (%s): %w", deadline, reason, err),
			Hint:    `raise chroma_lock_deadline, or set chroma_method = "api" or "freeze"`,
		}
	}
	var readOnly *readOnlyError
	if errors.As(err, &readOnly) {
		return held, &failure.Error{
			Op:      "chroma",
			Subject: l.from.Path(),
			Err:     fmt.Errorf("no quiet moment was met (%s), and %w", reason, err),
			Hint:    `give this process write access to the file, or set chroma_method = "api" or "freeze"`,
		}
	}
	return held, err
}

// underLock copies until two looks agree. A persist that began before the lock
// ends while it waits; after that nothing can move, because every write begins
// in the database.
func (l *live) underLock(ctx context.Context, lock *writeLock) error {
	before, err := l.lookAtDatabase()
	if err != nil {
		return err
	}
	for moved := "nothing copied yet"; moved != ""; {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", moved, ctx.Err())
		}
		// Past the wait it goes on all the same: what is out of order and does
		// not move is for the validator to judge.
		seen, _, err := l.waitIdle(ctx, lockedIdle)
		if err != nil {
			return err
		}
		if err := l.update(ctx, seen); err != nil {
			return err
		}
		if err := l.copyDatabase(ctx); err != nil {
			return err
		}
		if seen, err = l.scan(); err != nil {
			return err
		}
		moved = l.changed(seen)
	}
	// A lock that does not hold, as on some network file systems, shows here.
	// (Under a WAL a checkpoint may touch the file although nothing is written.)
	after, err := l.lookAtDatabase()
	if err == nil && !lock.wal && !before.unchanged(after) {
		err = fmt.Errorf("%s changed under its write lock", l.from.Path())
	}
	return err
}

// writeLock is the write lock of a live database. Nothing is ever written under
// it, so SQLite makes no journal that could be left behind.
type writeLock struct {
	db   *sql.DB
	conn *sql.Conn
	wal  bool // the database has a write-ahead log
}

// readOnlyError is of a database that this process may not write.
type readOnlyError struct{ path string }

func (e *readOnlyError) Error() string { return e.path + " is read-only for this process" }

// lockWrites waits for the write lock until ctx ends. It refuses a connection
// that SQLite has opened read-only, on which BEGIN IMMEDIATE succeeds and locks
// nothing.
func lockWrites(ctx context.Context, live sqlite.Live, wait time.Duration) (_ *writeLock, err error) {
	db, err := live.OpenReadWrite(ctx, wait)
	if err != nil {
		return nil, err
	}
	w := &writeLock{db: db}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.conn, err = db.Conn(ctx); err != nil {
		return nil, err
	}
	readOnly := true
	err = w.conn.Raw(func(raw any) (err error) {
		readOnly, err = raw.(interface {
			IsReadOnly(schema string) (bool, error)
		}).IsReadOnly("main")
		return err
	})
	if err != nil {
		return nil, err
	}
	if readOnly {
		return nil, &readOnlyError{live.Path()}
	}
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	var mode string
	err = w.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
	w.wal = mode == "wal"
	return w, err
}

// release gives the lock back, also when the context of the copy has ended.
func (w *writeLock) release() error {
	_, err := w.conn.ExecContext(context.Background(), "ROLLBACK")
	return errors.Join(err, w.close())
}

func (w *writeLock) close() error {
	if w.conn == nil {
		return w.db.Close()
	}
	return errors.Join(w.conn.Close(), w.db.Close())
}
