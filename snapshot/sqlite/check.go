package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"
)

// The codes of Findings. They are stable: programs read them.
const (
	CodeNotSQLite       = "db_not_sqlite"
	CodeIntegrity       = "db_integrity_check_failed"
	CodeForeignKeys     = "db_foreign_key_check_failed"
	CodeTableMissing    = "db_required_table_missing"
	CodeSidecarPresent  = "db_sidecar_present"
	maxIntegrityReports = 20
)

// CheckOptions says what else a database must have.
type CheckOptions struct {
	RequiredTables []string
}

// Finding is one thing that is wrong with a database.
type Finding struct {
	Code string // one of the codes above
	Text string // for people
}

// Check judges a database that nobody writes to, such as a Copy, by reading all
// of it, and leaves nothing beside it. Violated foreign keys are the only
// warnings: SQLite enforces them only on request, so the live database may have
// had them, and the caller decides. err is for what keeps the check from giving
// a verdict: a missing or unreadable file, a cancelled context.
//
// It is not for live databases.
func Check(ctx context.Context, path string, o CheckOptions) (problems, warnings []Finding, err error) {
	found := func(code, format string, args ...any) {
		problems = append(problems, Finding{code, fmt.Sprintf(format, args...)})
	}
	for _, suffix := range sidecarSuffixes {
		if state, err := stateOf(path + suffix); err != nil {
			return nil, nil, err
		} else if state.exists {
			found(CodeSidecarPresent, "%s is beside the database", path+suffix)
		}
	}
	if _, err := readHeader(path); errors.Is(err, errNotSQLite) {
		found(CodeNotSQLite, "%s: %v", path, err)
		return problems, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	err = WithStored(ctx, path, func(db *sql.DB) error {
		reports, err := queryStrings(ctx, db, fmt.Sprintf("PRAGMA integrity_check(%d)", maxIntegrityReports))
		if err != nil {
			return err
		}
		if len(reports) != 1 || reports[0] != "ok" {
			found(CodeIntegrity, "%s: %s", path, strings.Join(reports, "; "))
		}
		missing, err := missingTables(ctx, db, o.RequiredTables)
		if err != nil {
			return err
		}
		for _, name := range missing {
			found(CodeTableMissing, "%s: no table %s", path, name)
		}
		warnings, err = checkForeignKeys(ctx, db, path)
		return err
	})
	switch {
	case err == nil:
		return problems, warnings, nil
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case primaryCode(err) == sqlite3.SQLITE_NOTADB:
		found(CodeNotSQLite, "%s: %v", path, err)
		return problems, warnings, nil
	case damaged(err):
		found(CodeIntegrity, "%s: %v", path, err)
		return problems, warnings, nil
	}
	return nil, nil, fmt.Errorf("%s: %w", path, err)
}

// damaged reports whether an error is the database's own fault: damage that ends a
// check before it can report, or bytes that the disk does not give back.
func damaged(err error) bool {
	switch primaryCode(err) {
	case sqlite3.SQLITE_CORRUPT,
		sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_FORMAT,
		sqlite3.SQLITE_ERROR,
		sqlite3.SQLITE_TOOBIG:
		return true
	}
	return errors.Is(err, errFault)
}

// checkForeignKeys reports one Finding for all violations.
func checkForeignKeys(ctx context.Context, db *sql.DB, path string) ([]Finding, error) {
	rows, err := db.QueryContext(ctx, "SELECT \"table\", rowid, parent FROM pragma_foreign_key_check")
	if err != nil {
		return foreignKeyTrouble(path, err)
	}
	defer rows.Close()
	violations, first := 0, ""
	for ; rows.Next(); violations++ {
		if violations > 0 {
			continue
		}
		var table, parent string
		var rowid sql.NullInt64 // null in a table without one
		if err := rows.Scan(&table, &rowid, &parent); err != nil {
			return nil, err
		}
		first = fmt.Sprintf("row %d of %s has no parent in %s", rowid.Int64, table, parent)
	}
	if err := rows.Err(); err != nil {
		return foreignKeyTrouble(path, err)
	}
	if violations == 0 {
		return nil, nil
	}
	return []Finding{{CodeForeignKeys, fmt.Sprintf("%s: %d violations, the first: %s", path, violations, first)}}, nil
}

// foreignKeyTrouble turns a key that SQLite cannot check, because the parent's
// column is not unique, into a Finding.
func foreignKeyTrouble(path string, err error) ([]Finding, error) {
	if primaryCode(err) != sqlite3.SQLITE_ERROR {
		return nil, err
	}
	return []Finding{{CodeForeignKeys, fmt.Sprintf("%s: %v", path, err)}}, nil
}

// defend prepares a connection for a database of size bytes whose schema may be
// anybody's: nothing in it runs that could do more than compute, damage inside a
// page is found, and memory is bounded.
func defend(ctx context.Context, db *sql.DB, size int64) error {
	for _, pragma := range []string{"trusted_schema = off", "cell_size_check = on", "query_only = on",
		fmt.Sprintf("cache_size = -%d", pageCacheKiB), fmt.Sprintf("mmap_size = %d", mmapSize(size))} {
		if _, err := db.ExecContext(ctx, "PRAGMA "+pragma); err != nil {
			return err
		}
	}
	return nil
}

// WithStored runs work on a stored database, mapped into memory whole where that
// helps (see mmapSize). See guardFault for the price.
func WithStored(ctx context.Context, path string, work func(*sql.DB) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	db, err := OpenImmutable(path)
	if err != nil {
		return err
	}
	err = guardFault(func() error {
		if err := defend(ctx, db, info.Size()); err != nil {
			return err
		}
		return work(db)
	})
	if errors.Is(err, errFault) {
		return err // SQLite was left in the middle of things: closing could hang
	}
	return errors.Join(err, db.Close())
}
