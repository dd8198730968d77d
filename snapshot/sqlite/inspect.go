package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
)

// Info describes a stored database.
type Info struct {
	PageSize      int64 // bytes
	PageCount     int64
	UserVersion   int64
	ApplicationID int64
	// JournalMode is "wal" or "delete". The file does not tell delete, truncate
	// and persist apart.
	JournalMode string
	// Tables holds the rows of every ordinary table, those of full-text and
	// similar indexes (shadow tables) among them. SQLite's own tables, views and
	// virtual tables are left out: the rows of a virtual table are in its shadow
	// tables or outside the database.
	Tables map[string]int64
}

// Inspect reads a database that nobody writes to, such as a Copy, and leaves
// nothing beside it. Counting reads every table or its smallest index whole. It
// is not for live databases, and proves nothing about soundness: Check does.
func Inspect(ctx context.Context, path string) (info Info, err error) {
	h, err := readHeader(path)
	if err != nil {
		return Info{}, err
	}
	info.JournalMode = "delete"
	if h.wal() {
		info.JournalMode = "wal"
	}
	err = WithStored(ctx, path, func(ctx context.Context, db *sql.DB, _ int64) error {
		for name, value := range map[string]*int64{
			"page_size": &info.PageSize, "page_count": &info.PageCount,
			"user_version": &info.UserVersion, "application_id": &info.ApplicationID,
		} {
			if err := db.QueryRowContext(ctx, "PRAGMA "+name).Scan(value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		info.Tables, err = countRows(ctx, db)
		return err
	})
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

func countRows(ctx context.Context, db *sql.DB) (map[string]int64, error) {
	names, err := queryStrings(ctx, db, `SELECT name FROM pragma_table_list
		WHERE schema = 'main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int64, len(names))
	for _, name := range names {
		var rows int64
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM main."+quote(name)).Scan(&rows); err != nil {
			return nil, fmt.Errorf("count rows of %s: %w", quote(name), err)
		}
		counts[name] = rows
	}
	return counts, nil
}

// quote makes any table name an SQL identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// queryer is a connection or a pool of one.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func queryStrings(ctx context.Context, db queryer, query string) (result []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		result = append(result, s)
	}
	return result, rows.Err()
}

// missingTables returns those of names that are not tables or views of the
// database. SQLite's names ignore the case of ASCII letters.
func missingTables(ctx context.Context, db queryer, names []string) (missing []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	have, err := queryStrings(ctx, db, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, name) }) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// requireTables refuses a source that lacks some of the tables.
func requireTables(ctx context.Context, db queryer, path string, names []string) error {
	missing, err := missingTables(ctx, db, names)
	if err != nil || len(missing) == 0 {
		return err
	}
	return fail(path, failure.Other, fmt.Errorf("required table %s is missing", strings.Join(missing, ", ")),
		"check that this is the right database, or correct atocore.required_tables")
}
