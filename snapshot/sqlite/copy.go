package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// CopyOptions says how Copy may go about it.
type CopyOptions struct {
	Share          bool          // the copy may share blocks with the source (reflink)
	BusyTimeout    time.Duration // how long to wait for a lock; 0 means DefaultBusyTimeout
	Deadline       time.Duration // bounds the whole copy; 0 means no bound
	RequiredTables []string      // refuse a source without these, before anything is written
}

// DefaultBusyTimeout is how long a copy waits for another process's lock.
const DefaultBusyTimeout = 10 * time.Second

// Copied says what Copy did.
type Copied struct {
	// Method is "wal-reflink" or "wal-copy" for a WAL database copied under a
	// pinned read transaction, "backup-api" for one in rollback-journal mode,
	// "immutable" for one that nobody uses; behind it, in parentheses, what
	// made it differ from the usual.
	Method string
	Bytes  int64 // the size of the copy
}

// Copy makes dst, which must not exist, a copy of the live database src as of
// one instant after the call: every transaction that was committed before is in
// it. Writers of a WAL database are not held up; those of one in
// rollback-journal mode wait for the copy to end.
//
// The copy is one fsynced file with nothing beside it, in the journal mode of
// the source and with its permissions (not its owner); the caller makes the
// name durable with fsx.SyncDir. A failed copy leaves nothing, short of a crash.
// The source's bytes, its journal mode and its WAL are left as they are; where
// there were no -wal and -shm, empty ones that belong to its owner may stay.
//
// Copies of one source in one process take turns. See the package comment for
// what the caller must not hold meanwhile.
func Copy(ctx context.Context, src Live, dst string, o CopyOptions) (Copied, error) {
	return copier{CopyOptions: o, clone: fsx.CloneOrCopy}.copy(ctx, src, dst)
}

// copier is one Copy with the places where tests reach in.
type copier struct {
	CopyOptions
	clone func(ctx context.Context, dst, src *os.File, share bool) (fsx.CopyMethod, error)
	// trustWAL leaves out the comparison of WAL headers; only the test that
	// shows what the comparison prevents sets it.
	trustWAL bool
}

// errMoved is of a copy that must start over, because the source became another
// or changed while it was thought to be still.
var errMoved = errors.New("the database kept changing while it was copied")

// maxTries bounds starting over. Each time needs an application that opens,
// closes or replaces the database within the moments between two looks at it.
const maxTries = 5

func (c copier) copy(ctx context.Context, src Live, dst string) (_ Copied, err error) {
	if c.BusyTimeout == 0 {
		c.BusyTimeout = DefaultBusyTimeout
	}
	if c.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Deadline,
			fail(src.Path(), failure.Other, fmt.Errorf("not finished within %s", c.Deadline),
				"find out what holds the database or slows the disk, or raise the deadline"))
		defer cancel()
	}
	defer func() {
		// SQLite only says that it was interrupted; the context knows by what.
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
	}()
	release, err := src.hold(ctx)
	if err != nil {
		return Copied{}, err
	}
	defer release()
	for range maxTries {
		var method string
		if method, err = c.once(ctx, src, dst); err == nil {
			return finished(method, dst)
		}
		if !errors.Is(err, errMoved) || ctx.Err() != nil {
			return Copied{}, err
		}
	}
	return Copied{}, fail(src.Path(), failure.Other, err, "try again when the application is quieter")
}

func finished(method, dst string) (Copied, error) {
	info, err := os.Lstat(dst)
	if err != nil {
		return Copied{}, err
	}
	return Copied{Method: method, Bytes: info.Size()}, nil
}

// once makes one attempt.
func (c copier) once(ctx context.Context, l Live, dst string) (method string, err error) {
	src, err := l.look()
	if err != nil {
		return "", err
	}
	how, err := src.access()
	if err != nil {
		return "", err
	}
	if how == accessQuiescent {
		return c.copyQuiescent(ctx, src, dst, "")
	}
	pin, err := takePin(ctx, l, c.BusyTimeout)
	if err != nil {
		return c.withoutPin(ctx, src, dst, err)
	}
	defer pin.release()
	if err := src.returnSidecars(); err != nil {
		return "", err
	}
	if err := requireTables(ctx, pin.conn, src.Path(), c.RequiredTables); err != nil {
		return "", err
	}
	tempCopy, err := createTempCopy(dst, src.perm())
	if err != nil {
		return "", err
	}
	defer tempCopy.discardUnless(&err)
	if pin.journalMode != "wal" {
		return "backup-api", c.backupTo(ctx, pin, tempCopy)
	}
	how2, err := c.copyPinned(ctx, pin, src, tempCopy)
	if errors.Is(err, errUnusable) {
		return fmt.Sprintf("backup-api (fallback: %v)", err), c.backupTo(ctx, pin, tempCopy)
	}
	return how2, err
}

// withoutPin goes on when SQLite could not start a read transaction.
func (c copier) withoutPin(ctx context.Context, src source, dst string, cause error) (string, error) {
	wal, err := src.state(walSuffix)
	if err != nil {
		return "", err
	}
	switch {
	case resultCode(cause) == sqlite3.SQLITE_READONLY_ROLLBACK:
		// An application died in mid-transaction. A reader may not roll it back,
		// but the copy can be rolled back.
		return c.copyQuiescent(ctx, src, dst, journalSuffix)
	case cannotMakeSidecars(cause) && src.header.wal() && wal.size == 0:
		// Closed cleanly, in a directory where this process cannot make a -wal.
		return c.copyQuiescent(ctx, src, dst, "")
	case primaryCode(cause) == sqlite3.SQLITE_CANTOPEN, primaryCode(cause) == sqlite3.SQLITE_READONLY:
		return "", fail(
			src.Path(),
			failure.Other,
			cause,
			fmt.Sprintf(
				"let uid %d search its directory, and write it if the -shm is missing, or start the application once",
				os.Geteuid(),
			),
		)
	case primaryCode(cause) == sqlite3.SQLITE_BUSY:
		return "", fail(
			src.Path(),
			failure.Other,
			fmt.Errorf("%s: no read lock within %s: %w", src.lockHolder(), c.BusyTimeout, cause),
			"locking_mode=EXCLUSIVE in the application would do this: turn it off, or stop the application",
		)
	}
	if hint := failure.HintOf(cause); hint != "" {
		return "", fail(src.Path(), failure.KindOf(cause), failure.WithoutHint(cause), hint)
	}
	return "", fail(src.Path(), failure.Other, cause, "run PRAGMA integrity_check on it")
}

// cannotMakeSidecars tells the two errors of a database whose directory cannot
// be written: on a read-only file system, and for lack of permission.
func cannotMakeSidecars(err error) bool {
	return primaryCode(err) == sqlite3.SQLITE_CANTOPEN || resultCode(err) == sqlite3.SQLITE_READONLY_DIRECTORY
}

// tempCopy is a copy that is being made.
type tempCopy struct {
	path string
	file *os.File
}

// createTempCopy creates dst. It refuses leftovers beside it, which SQLite would
// replay into the copy.
func createTempCopy(dst string, perm fs.FileMode) (*tempCopy, error) {
	if err := standsAlone(dst); err != nil {
		return nil, err
	}
	f, err := fsx.Create(dst, perm)
	if err != nil {
		return nil, err
	}
	d := &tempCopy{path: dst, file: f}
	if err := f.Chmod(perm); err != nil { // the umask took part in Create
		d.discard()
		return nil, err
	}
	return d, nil
}

// standsAlone fails when SQLite's files are beside a database.
func standsAlone(path string) error {
	for _, suffix := range sidecarSuffixes {
		if state, err := stateOf(path + suffix); err != nil {
			return err
		} else if state.exists {
			return &fs.PathError{Op: "copy database", Path: path + suffix, Err: fs.ErrExist}
		}
	}
	return nil
}

// discardUnless removes a draft that failed; for defer.
func (d *tempCopy) discardUnless(err *error) {
	if *err != nil {
		d.discard()
	}
}

func (d *tempCopy) discard() {
	d.file.Close()
	os.Remove(d.path)
	for _, suffix := range sidecarSuffixes {
		os.Remove(d.path + suffix)
	}
}

// finish makes the bytes of a draft durable that SQLite has let go of.
func (d *tempCopy) finish() error {
	if err := standsAlone(d.path); err != nil {
		return err
	}
	if err := fsx.Sync(d.file); err != nil {
		return err
	}
	return d.file.Close()
}
