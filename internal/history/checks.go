package history

import (
	"context"
	"time"
)

// Validation is the newest check of one snapshot.
type Validation struct {
	Stamp     string        `json:"stamp"`
	CheckedAt time.Time     `json:"checked_at"`
	Valid     bool          `json:"valid"`
	Errors    []string      `json:"errors"`
	Bytes     int64         `json:"bytes"` // that were read
	Duration  time.Duration `json:"-"`
	// FailedSince is when the first of the checks in a row that failed was made;
	// zero for a valid one. It is kept, not given, by PutValidation.
	FailedSince time.Time `json:"failed_since,omitzero"`
}

// PutValidation records a check; it replaces the one before of that snapshot,
// but remembers since when it fails.
func (d *DB) PutValidation(ctx context.Context, v Validation) error {
	found, err := words(v.Errors)
	if err != nil {
		return err
	}
	_, err = d.exec(ctx, `INSERT INTO validations (stamp, checked_at, valid, errors, bytes, duration_ms, failed_since)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, CASE WHEN ?3 THEN NULL ELSE ?2 END)
		ON CONFLICT (stamp) DO UPDATE SET checked_at = ?2, valid = ?3, errors = ?4, bytes = ?5, duration_ms = ?6,
		failed_since = CASE WHEN ?3 THEN NULL ELSE coalesce(failed_since, ?2) END`,
		v.Stamp, v.CheckedAt.UnixMilli(), v.Valid, found, v.Bytes, v.Duration.Milliseconds())
	return err
}

const validationColumns = "stamp, checked_at, valid, errors, bytes, duration_ms, failed_since"

// Validation returns the newest check of a snapshot; false when there was none.
func (d *DB) Validation(ctx context.Context, stamp string) (Validation, bool, error) {
	return one(ctx, d, scanValidation, "SELECT "+validationColumns+" FROM validations WHERE stamp = ?", stamp)
}

// Validations returns the newest check of every snapshot, least recently checked
// first.
func (d *DB) Validations(ctx context.Context) ([]Validation, error) {
	return list(ctx, d, scanValidation, "SELECT "+validationColumns+" FROM validations ORDER BY checked_at, stamp")
}

// ForgetValidation removes the check of a snapshot that is gone.
func (d *DB) ForgetValidation(ctx context.Context, stamp string) error {
	_, err := d.exec(ctx, "DELETE FROM validations WHERE stamp = ?", stamp)
	return err
}

func scanValidation(r row) (v Validation, err error) {
	err = r.Scan(&v.Stamp, intoTime{&v.CheckedAt}, &v.Valid, intoWords{&v.Errors}, &v.Bytes, intoDuration{&v.Duration},
		intoTime{&v.FailedSince})
	return v, err
}

// Drill is one restore into a scratch directory.
type Drill struct {
	ID        int64         `json:"id"`
	Stamp     string        `json:"stamp"`
	Source    string        `json:"source"` // "local" or a target's name
	StartedAt time.Time     `json:"started_at"`
	Duration  time.Duration `json:"-"`
	Pass      bool          `json:"pass"`
	Surprises []string      `json:"surprises"`
	// Of a live drill, the snapshot of what was live before it.
	PreRestore string `json:"pre_restore_snapshot,omitempty"`
	Note       string `json:"note,omitempty"` // what a person had to say of it
}

// AddDrill records a drill that ended. Its ID is given, not taken.
func (d *DB) AddDrill(ctx context.Context, drill Drill) (int64, error) {
	surprises, err := words(drill.Surprises)
	if err != nil {
		return 0, err
	}
	id, _, err := one(ctx, d, scanID, `INSERT INTO drills (stamp, source, started_at, duration_ms, pass, surprises,
			pre_restore, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		drill.Stamp, drill.Source, drill.StartedAt.UnixMilli(),
		drill.Duration.Milliseconds(), drill.Pass, surprises, drill.PreRestore, drill.Note)
	return id, err
}

// Drills returns the newest drills, newest first, at most limit of them.
func (d *DB) Drills(ctx context.Context, limit int) ([]Drill, error) {
	return list(ctx, d, scanDrill, `SELECT id, stamp, source, started_at, duration_ms, pass, surprises,
		pre_restore, note FROM drills ORDER BY started_at DESC, id DESC LIMIT ?`, limit)
}

func scanDrill(r row) (drill Drill, err error) {
	err = r.Scan(&drill.ID, &drill.Stamp, &drill.Source, intoTime{&drill.StartedAt}, intoDuration{&drill.Duration},
		&drill.Pass, intoWords{&drill.Surprises}, &drill.PreRestore, &drill.Note)
	return drill, err
}
