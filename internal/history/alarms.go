package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/atocore/atobackupd/internal/health"
)

// Alarm says that a leg is bad, or was.
type Alarm = health.Alarm

const alarmColumns = "id, leg, since, level, message, hint, notified_at, resolved_at"

// Raise opens an alarm for a leg, or updates the level of the open one and its
// words. A leg has one open alarm at most, whoever raises it and however
// often the process starts. It returns the alarm, and true when it is new.
func (d *DB) Raise(ctx context.Context, raised Alarm) (alarm Alarm, fresh bool, err error) {
	err = d.write(ctx, func(tx *sql.Tx) error {
		update := tx.QueryRowContext(ctx, `UPDATE alarms SET level = ?, message = ?, hint = ?
			WHERE leg = ? AND resolved_at IS NULL
			RETURNING `+alarmColumns, raised.Level, raised.Message, raised.Hint, raised.Leg)
		if alarm, err = scanAlarm(update); !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		fresh = true
		alarm, err = scanAlarm(tx.QueryRowContext(ctx, `INSERT INTO alarms (leg, since, level, message, hint)
			VALUES (?, ?, ?, ?, ?)
			RETURNING `+alarmColumns, raised.Leg, raised.Since.UnixMilli(), raised.Level, raised.Message, raised.Hint))
		return err
	})
	if err != nil {
		return Alarm{}, false, fmt.Errorf("history: %w", err)
	}
	return alarm, fresh, nil
}

// Resolve closes a leg's open alarm and returns it; false when there is none.
func (d *DB) Resolve(ctx context.Context, leg string, now time.Time) (Alarm, bool, error) {
	return one(ctx, d, scanAlarm, `UPDATE alarms SET resolved_at = ? WHERE leg = ? AND resolved_at IS NULL
		RETURNING `+alarmColumns, now.UnixMilli(), leg)
}

// Notified records that somebody was told of an alarm as it is: that it is
// open, or, at or after its ResolvedAt, that it is over.
func (d *DB) Notified(ctx context.Context, id int64, at time.Time) error {
	n, err := d.exec(ctx, "UPDATE alarms SET notified_at = ? WHERE id = ?", at.UnixMilli(), id)
	if err == nil && n == 0 {
		err = fmt.Errorf("history: there is no alarm %d", id)
	}
	return err
}

// OpenAlarms returns the alarms that are open, oldest first.
func (d *DB) OpenAlarms(ctx context.Context) ([]Alarm, error) {
	return list(ctx, d, scanAlarm, "SELECT "+alarmColumns+" FROM alarms WHERE resolved_at IS NULL ORDER BY since, id")
}

// UntoldRecoveries returns the alarms of which somebody was told and that are
// over, which nobody was told yet, oldest first: a process may end between the
// two.
func (d *DB) UntoldRecoveries(ctx context.Context) ([]Alarm, error) {
	return list(ctx, d, scanAlarm, "SELECT "+alarmColumns+` FROM alarms
		WHERE resolved_at IS NOT NULL AND notified_at < resolved_at ORDER BY resolved_at, id`)
}

// Alarms returns the newest alarms, open or over, newest first, at most limit.
func (d *DB) Alarms(ctx context.Context, limit int) ([]Alarm, error) {
	return list(ctx, d, scanAlarm, "SELECT "+alarmColumns+" FROM alarms ORDER BY since DESC, id DESC LIMIT ?", limit)
}

func scanAlarm(r row) (a Alarm, err error) {
	err = r.Scan(&a.ID, &a.Leg, intoTime{&a.Since}, &a.Level, &a.Message, &a.Hint, intoTime{&a.NotifiedAt},
		intoTime{&a.ResolvedAt})
	return a, err
}

// Leg is how a leg last went, in the words of whoever recorded it.
type Leg struct {
	Name        string    `json:"name"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	LastError   string    `json:"last_error,omitempty"` // of the last attempt; "" when it went well
}

// LegSucceeded records that a leg went well.
func (d *DB) LegSucceeded(ctx context.Context, leg string, at time.Time) error {
	_, err := d.exec(ctx, `INSERT INTO legs (leg, last_success, last_attempt, last_error) VALUES (?1, ?2, ?2, '')
		ON CONFLICT (leg) DO UPDATE SET last_success = ?2, last_attempt = ?2, last_error = ''`, leg, at.UnixMilli())
	return err
}

// LegFailed records that a leg was tried in vain, or skipped, and why. Its last
// success stays.
func (d *DB) LegFailed(ctx context.Context, leg string, at time.Time, why string) error {
	_, err := d.exec(ctx, `INSERT INTO legs (leg, last_attempt, last_error) VALUES (?1, ?2, ?3)
		ON CONFLICT (leg) DO UPDATE SET last_attempt = ?2, last_error = ?3`, leg, at.UnixMilli(), why)
	return err
}

// Legs returns every leg that was ever tried, by name.
func (d *DB) Legs(ctx context.Context) ([]Leg, error) {
	return list(ctx, d, scanLeg, "SELECT leg, last_success, last_attempt, last_error FROM legs ORDER BY leg")
}

func scanLeg(r row) (l Leg, err error) {
	err = r.Scan(&l.Name, intoTime{&l.LastSuccess}, intoTime{&l.LastAttempt}, &l.LastError)
	return l, err
}
