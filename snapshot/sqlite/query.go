package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// QueryTrue runs one SQL query that must give one row of one column and reports
// whether that value is true in SQL's sense: a number other than zero. NULL and
// text that is not a number are false. Queries that write fail.
//
// It suits stored databases and live ones: a WAL database without a -wal has no
// user, and is read without leaving anything beside it.
func QueryTrue(ctx context.Context, path string, owners tree.Owners, query string) (yes bool, err error) {
	err = quietly(ctx, path, owners, query, func(ctx context.Context, db *sql.DB) error {
		value, err := querySingle(ctx, db, query)
		yes = isTrue(value)
		return err
	})
	return yes && err == nil, err
}

// CheckQuery compiles a query for the tables of a database, and runs nothing of it.
func CheckQuery(ctx context.Context, path string, owners tree.Owners, query string) error {
	return quietly(ctx, path, owners, query, func(ctx context.Context, db *sql.DB) error {
		rows, err := db.QueryContext(ctx, "EXPLAIN "+query)
		if err != nil {
			return err
		}
		return rows.Close()
	})
}

// quietly does something with a query on a database that is only read and beside which
// nothing appears, in the time that the check of the whole database may take: a view
// of somebody else's may stand in the place of a table.
func quietly(ctx context.Context, path string, owners tree.Owners, query string,
	do func(context.Context, *sql.DB) error) error {
	src, err := OpenLive(path, owners)
	if err != nil {
		return err
	}
	defer src.Close()
	release, err := src.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	db, err := src.openQuietly(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "PRAGMA query_only = 1"); err != nil {
		return err
	}
	main, err := src.state("")
	if err != nil {
		return err
	}
	_, err = within(ctx, budget(main.size), errQueryBudget, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, do(ctx, db)
	})
	if err != nil {
		return fmt.Errorf("%s: query %q: %w", src.Path(), query, err)
	}
	return nil
}

// errQueryBudget is of a query that does not end in the time that the check of the
// whole database may take.
var errQueryBudget = errors.New("it takes longer than the check of a whole database of this size should: " +
	"look whether a view has taken the place of a table")

// openQuietly opens a database for reading so that nothing appears beside it.
func (l Live) openQuietly(ctx context.Context) (*sql.DB, error) {
	h, err := l.readHeader()
	if err != nil {
		return nil, unreadable(l.Path(), err)
	}
	wal, err := l.state(walSuffix)
	if err != nil {
		return nil, err
	}
	if h.wal() && !wal.exists {
		return l.open(ctx, immutable)
	}
	return l.OpenReadOnly(ctx, DefaultBusyTimeout)
}

func querySingle(ctx context.Context, db *sql.DB, query string) (value any, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	if len(columns) != 1 {
		return nil, fmt.Errorf("gave %d columns, not one", len(columns))
	}
	if !rows.Next() {
		return nil, errors.Join(errors.New("gave no row"), rows.Err())
	}
	if err := rows.Scan(&value); err != nil {
		return nil, err
	}
	if rows.Next() {
		return nil, errors.New("gave more than one row")
	}
	return value, rows.Err()
}

func isTrue(value any) bool {
	switch v := value.(type) {
	case int64:
		return v != 0
	case float64:
		return v != 0
	case bool: // what the driver makes of a column declared BOOLEAN
		return v
	case string:
		number, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return err == nil && number != 0
	case []byte:
		return isTrue(string(v))
	}
	return false
}
