// Package sqlite copies and checks SQLite databases: the copy of a live
// database at the speed of cp, and the judgement of a stored one.
package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"; only this package and internal/history import it
)

// OpenImmutable opens a database that nobody writes to, such as one in a
// snapshot. SQLite then takes no locks and leaves no -wal and -shm beside it.
// It does not look at a -wal either: a stored database has none.
func OpenImmutable(path string) (*sql.DB, error) {
	return open(path, "mode=ro&immutable=1")
}

// OpenReadOnly opens a live database for reading, waiting up to busy for other
// processes' locks.
func OpenReadOnly(path string, busy time.Duration) (*sql.DB, error) {
	return open(path, fmt.Sprintf("mode=ro&_pragma=busy_timeout(%d)", busy.Milliseconds()))
}

// OpenReadWrite opens an existing database for writing; it never creates one.
func OpenReadWrite(path string, busy time.Duration) (*sql.DB, error) {
	return open(path, fmt.Sprintf("mode=rw&_pragma=busy_timeout(%d)", busy.Milliseconds()))
}

// open opens one connection eagerly, so that a path that cannot be opened fails
// here and not at the first query. One connection: pragmas and transactions
// belong to a connection, and these are used as one.
func open(path, query string) (*sql.DB, error) {
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := db.PingContext(context.Background()); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}
