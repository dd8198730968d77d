package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// A schema may come from anybody who can write the live database, and an
// expression in an index, a generated column or a constraint is evaluated for
// every row. What such a check may cost is bounded by the connection's limits
// (see connect.go) and by a time that any honest database of that size keeps.

// errBudget is of a check that was ended because it took longer than any honest
// database needs.
var errBudget = errors.New("its check takes longer than any of a database of this size should: " +
	"look for an index, a generated column or a constraint that computes too much")

// budget returns how long the check of a database of size bytes may take: many
// times what a slow disk and a busy processor need.
func budget(size int64) time.Duration { return minBudget + time.Duration(size>>20)*time.Second/2 }

// minBudget is for the smallest database; tests shorten it.
var minBudget = 2 * time.Minute

// Integrity runs SQLite's integrity check over a stored database of size bytes.
// Where SQLite cannot check it whole, its tables are checked one by one: one whose
// check costs more than it may is a problem that names it, and one that uses a
// collation, a function or a module that only the application has is named in a
// warning, for then SQLite alone cannot say more. err is for what keeps the check
// from a verdict; damage that ends it is one of those.
func Integrity(ctx context.Context, db *sql.DB, size int64) (problems, warnings []string, err error) {
	reports, err := boundedCheck(ctx, db, budget(size), fmt.Sprintf("PRAGMA integrity_check(%d)", maxIntegrityReports))
	if err == nil && !mentionsUnknown(reports) {
		return withoutOK(reports), nil, nil
	}
	if err != nil && (ctx.Err() != nil || !tooCostly(err) && !isUnknown(err.Error())) {
		return nil, nil, err
	}
	tables, err := queryStrings(ctx, db, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rootpage, name")
	if err != nil {
		return nil, nil, err
	}
	for _, table := range tables {
		problem, warning, err := checkTable(ctx, db, size, table)
		if err != nil {
			return problems, warnings, err
		}
		problems = append(problems, problem...)
		if warning != "" {
			warnings = append(warnings, warning)
		}
		if len(problems) >= maxIntegrityReports {
			break
		}
	}
	return problems, warnings, nil
}

// checkTable checks one table with its indexes, or as much of it as SQLite alone
// can.
func checkTable(ctx context.Context, db *sql.DB, size int64, table string) (
	problems []string,
	warning string,
	err error,
) {
	reports, err := boundedCheck(ctx, db, budget(size), "PRAGMA integrity_check("+quote(table)+")")
	switch {
	case err == nil && !mentionsUnknown(reports):
		return withoutOK(reports), "", nil
	case err != nil && ctx.Err() != nil:
		return nil, "", err
	case err != nil && tooCostly(err):
		return []string{fmt.Sprintf("table %s: %v", quote(table), err)}, "", nil
	case err != nil && !isUnknown(err.Error()):
		return nil, "", err
	}
	why := strings.Join(reports, "; ")
	if err != nil {
		why = err.Error()
	}
	warning = fmt.Sprintf("table %s uses what is not evaluated here (%s)", quote(table), why)
	// Without its indexes' content the table may be readable all the same.
	reports, err = boundedCheck(ctx, db, budget(size), "PRAGMA quick_check("+quote(table)+")")
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, "", err
	case err != nil && tooCostly(err):
		return []string{fmt.Sprintf("table %s: %v", quote(table), err)}, warning, nil
	case err != nil && !isUnknown(err.Error()):
		return nil, "", err
	case err != nil || mentionsUnknown(reports):
		return nil, warning + ", and could not be checked", nil
	}
	return withoutOK(reports), warning + ", so that only its structure was checked", nil
}

// boundedCheck runs one check for at most the given time. It begins by looking at
// each cell of each page itself, so the connection's own look at them, each time
// that a page comes up again, is left out: of a mapped database it was 40 % of the
// check. A connection that replaces an interrupted one has it again.
func boundedCheck(ctx context.Context, db *sql.DB, most time.Duration, pragma string) (reports []string, err error) {
	if err := removeCostly(ctx, db); err != nil {
		return nil, err
	}
	if err := setCellCheck(ctx, db, false); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, setCellCheck(context.WithoutCancel(ctx), db, true)) }()
	return within(ctx, most, errBudget, func(ctx context.Context) ([]string, error) {
		return queryStrings(ctx, db, pragma)
	})
}

// costly are the functions that take time in the product of their arguments' lengths,
// and that SQLite cannot be interrupted in: one call of them may take days.
var costly = map[string]int32{
	"instr": 2, "replace": 3, "trim": 2, "ltrim": 2, "rtrim": 2, "unhex": 2,
	"json_patch": 2, "jsonb_patch": 2, "geopoly_overlap": 2, "geopoly_within": 2,
}

// removeCostly keeps a schema from calling a costly function: it is unknown, like one
// that only the application has. The schema is read first, for one that names an
// unknown function cannot be read.
func removeCostly(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT 1 FROM sqlite_master LIMIT 1"); err != nil {
		return err
	}
	return conn.Raw(func(conn any) error {
		h, err := handleOf(conn)
		for name, arguments := range costly {
			if err == nil {
				err = h.remove(name, arguments)
			}
		}
		return err
	})
}

// setCellCheck turns the look at the cells of each fetched page on or off.
func setCellCheck(ctx context.Context, db *sql.DB, on bool) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA cell_size_check = %t", on))
	return err
}

// within runs work, which is interrupted after the given time and fails with late
// then.
func within[T any](
	ctx context.Context, most time.Duration, late error, work func(context.Context) (T, error),
) (result T, err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, most, late)
	defer cancel()
	result, err = work(bounded)
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(bounded), late) {
		err = late
	}
	return result, err
}

// tooCostly reports whether a check was ended by one of the limits.
func tooCostly(err error) bool {
	code := primaryCode(err)
	return errors.Is(err, errBudget) || code == sqlite3.SQLITE_TOOBIG || code == sqlite3.SQLITE_NOMEM
}

// isUnknown reports whether SQLite says that it has no such collation, function or
// module: an application may bring its own.
func isUnknown(text string) bool {
	for _, words := range []string{"no such collation sequence", "no such function", "no such module",
		"unknown function", "no such tokenizer"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func mentionsUnknown(reports []string) bool { return isUnknown(strings.Join(reports, "; ")) }

func withoutOK(reports []string) []string {
	if len(reports) == 1 && reports[0] == "ok" {
		return nil
	}
	return reports
}
