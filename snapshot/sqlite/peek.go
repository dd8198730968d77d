package sqlite

import (
	"context"
	"database/sql"
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
// at one row of each table. Where the normal read-only open is not possible it
// looks at the main file alone, as Copy does.
func Peek(ctx context.Context, path string, busy time.Duration) (Overview, error) {
	db, err := OpenReadOnly(path, busy)
	if err == nil {
		var o Overview
		if o, err = overview(ctx, db); err == nil {
			return o, db.Close()
		}
		db.Close()
	}
	if ctx.Err() != nil {
		return Overview{}, ctx.Err()
	}
	if db, openErr := OpenImmutable(path); openErr == nil {
		defer db.Close()
		if o, overviewErr := overview(ctx, db); overviewErr == nil {
			return o, nil
		}
	}
	return Overview{}, err
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
