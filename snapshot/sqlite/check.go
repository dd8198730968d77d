package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/atocore/atobackupd/internal/fsx"
)

// The codes of Findings. They are stable: programs read them.
const (
	CodeNotSQLite       = "db_not_sqlite"
	CodeIntegrity       = "db_integrity_check_failed"
	CodeForeignKeys     = "db_foreign_key_check_failed"
	CodeTableMissing    = "db_required_table_missing"
	CodeSidecarPresent  = "db_sidecar_present"
	CodeUnchecked       = "db_not_checked_whole"
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
// of it, and leaves nothing beside it. Warnings are violated foreign keys, which
// SQLite enforces only on request, so that the live database may have had them and
// the caller decides; and what SQLite alone cannot check, see Integrity. err is for
// what keeps the check from a verdict: a missing or unreadable file, a cancelled
// context.
//
// It is not for live databases.
func Check(ctx context.Context, path string, o CheckOptions) (problems, warnings []Finding, err error) {
	found := func(code, format string, args ...any) {
		problems = append(problems, Finding{code, fmt.Sprintf(format, args...)})
	}
	for _, suffix := range sidecarSuffixes {
		state, err := stateOf(path + suffix)
		switch {
		case err != nil:
			return nil, nil, err
		case state.exists && (state.size == 0 || suffix == shmSuffix):
			// A reader's, who left it: it holds nothing of the database.
			warnings = append(
				warnings,
				Finding{CodeSidecarPresent, path + suffix + " is beside the database, and holds nothing"},
			)
		case state.exists:
			found(CodeSidecarPresent, "%s is beside the database", path+suffix)
		}
	}
	if _, err := readHeader(path); errors.Is(err, errNotSQLite) {
		found(CodeNotSQLite, "%s: %v", path, err)
		return problems, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	judge := func(ctx context.Context, db *sql.DB, size int64) error {
		reports, unchecked, err := Integrity(ctx, db, size)
		if err != nil {
			return err
		}
		if len(reports) > 0 {
			found(CodeIntegrity, "%s: %s", path, strings.Join(reports, "; "))
		}
		for _, text := range unchecked {
			warnings = append(warnings, Finding{CodeUnchecked, path + ": " + text})
		}
		missing, err := missingTables(ctx, db, o.RequiredTables)
		if err != nil {
			return err
		}
		for _, name := range missing {
			found(CodeTableMissing, "%s: no table %s", path, name)
		}
		keys, err := checkForeignKeys(ctx, db, size, path)
		warnings = append(warnings, keys...)
		return err
	}
	err = fsx.OnCore(ctx, func() error { return WithStored(ctx, path, judge) })
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
		sqlite3.SQLITE_NOMEM,
		sqlite3.SQLITE_TOOBIG:
		return true
	}
	return errors.Is(err, errFault) || errors.Is(err, errBudget)
}

// checkForeignKeys reports one Finding for all violations.
func checkForeignKeys(ctx context.Context, db *sql.DB, size int64, path string) ([]Finding, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, budget(size), errBudget)
	defer cancel()
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

// WithStored runs work on a stored database of size bytes, mapped into memory whole
// where that helps (see mmapSize), and within a time that any honest database of
// that size keeps. See guardFault for the price of the mapping.
func WithStored(ctx context.Context, path string, work func(ctx context.Context, db *sql.DB, size int64) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	// Told to each connection: an interrupted one is replaced by database/sql.
	db, err := open(ctx, path, fmt.Sprintf("%s&_pragma=query_only(on)&_pragma=cache_size(-%d)&_pragma=mmap_size(%d)",
		immutable, pageCacheKiB, mmapSize(info.Size())), nil)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, 4*budget(info.Size()), errBudget)
	defer cancel()
	err = guardFault(func() error { return work(bounded, db, info.Size()) })
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		err = errBudget // of SQLite it is only an interruption
	}
	if errors.Is(err, errFault) {
		return err // SQLite was left in the middle of things: closing could hang
	}
	return errors.Join(err, db.Close())
}
