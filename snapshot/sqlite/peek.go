package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"
)

// Overview is what can be told of a live database at a glance.
type Overview struct {
	Tables  []string // ordinary tables, sorted
	HasRows bool     // at least one of them has a row
}

// Peek looks at a live database without copying it: at its schema, and at most
// at one row of each table.
func Peek(ctx context.Context, src Live, busy time.Duration) (Overview, error) {
	return readLive(ctx, src, busy, overview)
}

// CountLive returns the rows of every table of a live database, as Inspect does of
// a stored one. Its application may be writing meanwhile.
func CountLive(ctx context.Context, src Live, busy time.Duration) (map[string]int64, error) {
	return readLive(ctx, src, busy, countRows)
}

// readLive reads in a live database. It keeps to Copy's rules about what may be
// opened how, so that nothing is left beside the database that its application
// could not write; what it then cannot see is what is still in the WAL.
func readLive[T any](
	ctx context.Context, l Live, busy time.Duration, read func(context.Context, *sql.DB) (T, error),
) (result T, err error) {
	release, err := l.hold(ctx)
	if err != nil {
		return result, err
	}
	defer release()
	src, err := l.look()
	if err != nil {
		return result, err
	}
	at := func(open func() (*sql.DB, error)) (result T, err error) {
		db, err := open()
		if err != nil {
			return result, err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return read(ctx, db)
	}
	if how, err := src.access(); err == nil && how == accessNormal {
		result, err := at(func() (*sql.DB, error) { return l.OpenReadOnly(ctx, busy) })
		if err = errors.Join(err, src.returnSidecars()); err == nil || ctx.Err() != nil {
			return result, err
		}
	}
	return at(func() (*sql.DB, error) { return l.open(ctx, immutable) })
}

func overview(ctx context.Context, db *sql.DB) (Overview, error) {
	rows, err := db.QueryContext(
		ctx,
		`select name from sqlite_master where type = 'table' and name not like 'sqlite\_%' escape '\'`,
	)
	if err != nil {
		return Overview{}, err
	}
	defer rows.Close()
	var o Overview
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return Overview{}, err
		}
		o.Tables = append(o.Tables, name)
	}
	if err := rows.Err(); err != nil {
		return Overview{}, err
	}
	slices.Sort(o.Tables)
	for _, name := range o.Tables {
		var one int
		query := `select exists(select 1 from "` + strings.ReplaceAll(name, `"`, `""`) + `")`
		// A virtual table whose module is not in this build cannot be read here;
		// its shadow tables can.
		if err := db.QueryRowContext(ctx, query).Scan(&one); err == nil && one == 1 {
			o.HasRows = true
			break
		}
	}
	return o, nil
}
