// Package sqlite copies and checks SQLite databases: the copy of a live
// database at the speed of cp, and the judgement of a stored one.
//
// One trap rules the whole package. POSIX locks belong to the process: closing
// any descriptor of a database file drops every lock that SQLite holds on it in
// this process, silently. So a live database is opened here through SQLite, or
// raw while the functions of this package know that none of their own
// connections is open, or with descriptors that outlive the connection. A
// caller that holds a connection with a lock of its own on a live database must
// not call Preflight or Copy on it meanwhile; BackupOneStep is made for that.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	driver "modernc.org/sqlite"
)

// OpenImmutable opens a database that nobody writes to, such as one in a
// snapshot. SQLite then takes no locks and leaves no -wal and -shm beside it.
// It does not look at a -wal either: a stored database has none.
func OpenImmutable(path string) (*sql.DB, error) {
	return open(context.Background(), path, immutable, nil)
}

// OpenPrivate opens a copy that this process is making, for SQLite to recover it.
// One whose journal names a super-journal is refused.
func OpenPrivate(ctx context.Context, path string) (*sql.DB, error) {
	if err := refuseSuperJournal(path); err != nil {
		return nil, err
	}
	return open(ctx, path, "mode=rw", nil)
}

// immutable is for files that nobody writes to: without locks, and without files
// beside them.
const immutable = "mode=ro&immutable=1"

func readOnly(busy time.Duration) string {
	return fmt.Sprintf("mode=ro&_pragma=busy_timeout(%d)", busy.Milliseconds())
}

// open opens one connection eagerly, so that a path that cannot be opened fails
// here and not at the first query. One connection: pragmas and transactions
// belong to a connection, and these are used as one. It reads the schema, and so
// may wait for a lock; ctx ends the wait. live is what must be opened, in a
// directory of somebody else's, and is taken over.
func open(ctx context.Context, path, query string, live *opened) (*sql.DB, error) {
	c, err := newConnector(path, query, live)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// dataSource makes the URI for a path, which may hold any characters. It is
// absolute, because SQLite would take the start of "//x" for a host.
func dataSource(path, query string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query}).String(), nil
}

// resultCode returns SQLite's extended result code of an error, 0 if it has none.
func resultCode(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// primaryCode is the low byte of resultCode, which names the class of error.
func primaryCode(err error) int { return resultCode(err) & 0xff }
