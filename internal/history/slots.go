package history

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Served returns the slot that the last Serve of a job recorded; false when there
// was none.
func (d *DB) Served(ctx context.Context, job string) (time.Time, bool, error) {
	return one(ctx, d, scanTime, "SELECT served FROM slots WHERE job = ?", job)
}

// Serve records that a job's slots up to and including this one are dealt
// with. nil means that the record survives a power cut. It replaces the record
// before it, even a later one.
func (d *DB) Serve(ctx context.Context, job string, slot time.Time) error {
	_, err := d.exec(ctx, `INSERT INTO slots (job, served, first_start) VALUES (?1, ?2, ?2)
		ON CONFLICT (job) DO UPDATE SET served = excluded.served`, job, slot.UnixMilli())
	return err
}

// FirstStart returns the first slot or start that was ever recorded for a job;
// false when there was none.
func (d *DB) FirstStart(ctx context.Context, job string) (time.Time, bool, error) {
	return one(ctx, d, scanTime, "SELECT first_start FROM slots WHERE job = ?", job)
}

// FirstRun returns when a job was first run; false when it never was.
func (d *DB) FirstRun(ctx context.Context, job string) (time.Time, bool, error) {
	at, ok, err := one(ctx, d, scanTime, "SELECT min(started_at) FROM runs WHERE job = ?", job)
	return at, ok && !at.IsZero(), err
}

// Missed records slots of a job that will not run. One that is there already is
// no error.
func (d *DB) Missed(ctx context.Context, job string, slots []time.Time) error {
	err := d.write(ctx, func(tx *sql.Tx) error {
		for _, slot := range slots {
			if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO missed (job, slot) VALUES (?, ?)", job,
				slot.UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

func scanTime(r row) (t time.Time, err error) {
	err = r.Scan(intoTime{&t})
	return t, err
}
