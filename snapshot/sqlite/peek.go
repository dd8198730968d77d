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
// at one row of each table. It keeps to Copy's rules about what may be opened
// how, so that nothing is left beside the database that its application could not
// write; what it then cannot see is what is still in the WAL.
func Peek(ctx context.Context, path string, busy time.Duration) (_ Overview, err error) {
	resolved, release, err := hold(ctx, path)
	if err != nil {
		return Overview{}, err
	}
	defer release()
	src, err := look(resolved)
	if err != nil {
		return Overview{}, err
	}
	if how, err := src.access(); err == nil && how == accessNormal {
		o, err := peekAt(ctx, func() (*sql.DB, error) { return OpenReadOnly(src.path, busy) })
		if err = errors.Join(err, src.returnSidecars()); err == nil || ctx.Err() != nil {
			return o, err
		}
	}
	return peekAt(ctx, func() (*sql.DB, error) { return OpenImmutable(src.path) })
}

func peekAt(ctx context.Context, open func() (*sql.DB, error)) (o Overview, err error) {
	db, err := open()
	if err != nil {
		return Overview{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return overview(ctx, db)
}

func overview(ctx context.Context, db *sql.DB) (Overview, error) {
	rows, err := db.QueryContext(ctx, `select name from sqlite_master where type = 'table' and name not like 'sqlite\_%' escape '\'`)
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
