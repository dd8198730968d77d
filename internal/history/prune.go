package history

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// KeepFor is how long Prune keeps what happened.
const KeepFor = 2 * 365 * 24 * time.Hour

// Prune forgets what is older than KeepFor and returns the number of rows. What
// is still needed stays, however old: slots, legs, open alarms, runs under way,
// each job's newest run, each target's newest push and its highest sequence
// number, the newest drill and the newest one that passed.
func (d *DB) Prune(ctx context.Context, now time.Time) (removed int64, err error) {
	before := now.Add(-KeepFor).UnixMilli()
	err = d.write(ctx, func(tx *sql.Tx) error {
		for _, statement := range []string{
			"DELETE FROM missed WHERE slot < ?",
			`DELETE FROM runs WHERE started_at < ? AND outcome <> 'running'
				AND id NOT IN (SELECT id FROM (SELECT id, max(started_at) FROM runs GROUP BY job))`,
			"DELETE FROM validations WHERE checked_at < ?",
			`DELETE FROM drills WHERE started_at < ?
				AND id NOT IN (SELECT id FROM (SELECT id, max(started_at) FROM drills GROUP BY pass))`,
			`DELETE FROM pushes WHERE at < ?
				AND id NOT IN (SELECT id FROM (SELECT id, max(at) FROM pushes GROUP BY target))
				AND id NOT IN (SELECT id FROM (SELECT id, max(seq) FROM pushes GROUP BY target))`,
			"DELETE FROM alarms WHERE resolved_at < ?",
		} {
			result, err := tx.ExecContext(ctx, statement, before)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			removed += n
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("history: %w", err)
	}
	return removed, nil
}
