package sqlite

import (
	"context"
	"errors"
	"os"

	"github.com/atocore/atobackupd/internal/fsx"
)

// fingerprint is everything in which a use of a database between two looks would
// show: its header, with the change counters, and the sizes and times of its
// files.
type fingerprint struct {
	header             header
	main, wal, journal fileState
}

func fingerprintOf(l Live) (f fingerprint, err error) {
	if f.header, err = l.readHeader(); err != nil {
		return f, unreadable(l.Path(), err)
	}
	for suffix, state := range map[string]*fileState{"": &f.main, walSuffix: &f.wal, journalSuffix: &f.journal} {
		if *state, err = l.state(suffix); err != nil {
			return f, err
		}
	}
	return f, nil
}

// copyQuiescent copies a database that cannot be locked and that nobody seems to
// use, and believes it only if nothing has moved meanwhile. companion is "" for
// one whose WAL is gone, or journalSuffix for one with the journal of a
// transaction that a crash cut off, which is rolled back in the copy.
func (c copier) copyQuiescent(ctx context.Context, src source, dst, companion string) (method string, err error) {
	before, err := fingerprintOf(src.Live)
	if err != nil {
		return "", err
	}
	if before.wal.size > 0 || companion == journalSuffix && !before.journal.exists {
		return "", errMoved
	}
	d, err := createTempCopy(dst, src.perm())
	if err != nil {
		return "", err
	}
	defer d.discardUnless(&err)
	if err := c.cloneFrom(ctx, d.file, src.Live, ""); err != nil {
		return "", err
	}
	if companion != "" {
		if err := c.cloneJournal(ctx, d, src.Live); err != nil {
			return "", err
		}
	}
	after, err := fingerprintOf(src.Live)
	if err != nil {
		return "", err
	}
	if before != after {
		return "", errMoved
	}
	method = "immutable"
	if companion != "" {
		method = "immutable (rolled back the transaction that a crash had left)"
		if err := rollBack(ctx, d.path); err != nil {
			return "", err
		}
	}
	if err := c.requireTablesOf(ctx, src.Path(), d.path); err != nil {
		return "", err
	}
	return method, d.finish()
}

// cloneFrom copies a file of the source. No connection of this package is open
// on it, so its descriptor may be closed.
func (c copier) cloneFrom(ctx context.Context, out *os.File, src Live, suffix string) error {
	in, err := src.raw(suffix)
	if err != nil {
		return unreadable(src.Path()+suffix, err)
	}
	defer in.Close()
	_, err = c.clone(ctx, out, in, c.Share)
	return err
}

func (c copier) cloneJournal(ctx context.Context, d *tempCopy, src Live) (err error) {
	out, err := fsx.Create(d.path+journalSuffix, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return c.cloneFrom(ctx, out, src, journalSuffix)
}

// rollBack lets SQLite find the journal beside a private copy, undo the
// transaction and remove it: any read does.
func rollBack(ctx context.Context, path string) (err error) {
	if err := fsx.Announce(fsx.OpWrite, path); err != nil {
		return err
	}
	if err := refuseSuperJournal(path); err != nil {
		return err
	}
	db, err := open(ctx, path, "mode=rw&_pragma=synchronous(off)", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var tables int
	return db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables)
}

// requireTablesOf looks for the required tables in a copy and reports on the
// source.
func (c copier) requireTablesOf(ctx context.Context, src, path string) error {
	if len(c.RequiredTables) == 0 {
		return nil
	}
	db, err := OpenImmutable(path)
	if err != nil {
		return err
	}
	defer db.Close()
	return requireTables(ctx, db, src, c.RequiredTables)
}
