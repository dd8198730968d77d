package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// querier is what a connection and a transaction have in common.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// row is what *sql.Row and *sql.Rows have in common.
type row interface{ Scan(dest ...any) error }

// write does several statements as one.
func (d *DB) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := d.db().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		if undo := tx.Rollback(); undo != nil && !errors.Is(undo, sql.ErrTxDone) {
			err = errors.Join(err, undo)
		}
		return err
	}
	return tx.Commit()
}

// exec does one statement and returns the number of rows that it touched.
func (d *DB) exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := d.db().ExecContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("history: %w", err)
	}
	return result.RowsAffected()
}

// list reads all rows of a query.
func list[T any](ctx context.Context, d *DB, scan func(row) (T, error), query string,
	args ...any) (all []T, err error) {
	rows, err := d.db().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// one reads the first row of a query; false when there is none.
func one[T any](ctx context.Context, d *DB, scan func(row) (T, error), query string, args ...any) (T, bool, error) {
	first, err := scan(d.db().QueryRowContext(ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return first, false, nil
	}
	if err != nil {
		return first, false, fmt.Errorf("history: %w", err)
	}
	return first, true, nil
}

// millis is a time as the file holds it: the zero time is NULL.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// millisOr is millis with a number for the zero time.
func millisOr(t time.Time, zero int64) int64 {
	if t.IsZero() {
		return zero
	}
	return t.UnixMilli()
}

// intoTime scans a column into a time, in UTC.
type intoTime struct{ t *time.Time }

// Scan implements sql.Scanner.
func (into intoTime) Scan(value any) error {
	switch value := value.(type) {
	case nil:
		*into.t = time.Time{}
	case int64:
		*into.t = time.UnixMilli(value).UTC()
	default:
		return fmt.Errorf("a time is stored as %T", value)
	}
	return nil
}

// intoDuration scans a column of milliseconds.
type intoDuration struct{ d *time.Duration }

// Scan implements sql.Scanner.
func (into intoDuration) Scan(value any) error {
	ms, ok := value.(int64)
	if !ok {
		return fmt.Errorf("a duration is stored as %T", value)
	}
	*into.d = time.Duration(ms) * time.Millisecond
	return nil
}

// words is a list of strings as the file holds it: a JSON array, never null.
func words(list []string) (string, error) {
	if list == nil {
		list = []string{}
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// intoWords scans a JSON array of strings.
type intoWords struct{ list *[]string }

// Scan implements sql.Scanner.
func (into intoWords) Scan(value any) error {
	text, ok := value.(string)
	if !ok {
		return fmt.Errorf("a list is stored as %T", value)
	}
	return json.Unmarshal([]byte(text), into.list)
}
