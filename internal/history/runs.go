package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/atocore/atobackupd/internal/health"
)

// Outcome is how a run ended, and Run is one attempt at a job.
type (
	Outcome = health.Outcome
	Run     = health.Run
)

// The outcomes.
const (
	Running     = health.Running
	OK          = health.OK
	Failed      = health.Failed
	Skipped     = health.Skipped
	Interrupted = health.Interrupted
	TimedOut    = health.TimedOut
)

// Begin records that a run starts: its Job, Kind, Slot, Stamp and StartedAt. It
// returns the id for Finish.
func (d *DB) Begin(ctx context.Context, run Run) (int64, error) {
	id, _, err := one(ctx, d, scanID, `INSERT INTO runs
		(job, kind, slot, stamp, started_at, outcome, error, bytes, owner)
		VALUES (?, ?, ?, ?, ?, 'running', '', 0, ?) RETURNING id`,
		run.Job, run.Kind, millis(run.Slot), run.Stamp, run.StartedAt.UnixMilli(), owner())
	return id, err
}

// ErrNoRun is wrapped by the error about a run that the file does not hold.
var ErrNoRun = errors.New("there is no such run")

// Finish records how the run that Begin recorded ended: its FinishedAt, Outcome,
// Error, Bytes and Detail, and its Kind and Stamp where they were not known before.
func (d *DB) Finish(ctx context.Context, run Run) error {
	var detail any
	if len(run.Detail) > 0 {
		detail = string(run.Detail)
	}
	n, err := d.exec(ctx, `UPDATE runs SET finished_at = ?, outcome = ?, error = ?, bytes = ?, detail = ?,
		kind = coalesce(nullif(?, ''), kind), stamp = coalesce(nullif(?, ''), stamp)
		WHERE id = ? AND job = ? AND started_at = ?`, // the file may be another one by now
		run.FinishedAt.UnixMilli(), run.Outcome, run.Error, run.Bytes, detail, run.Kind, run.Stamp, run.ID, run.Job,
		run.StartedAt.UnixMilli())
	if err == nil && n == 0 {
		err = fmt.Errorf("history: %s run %d: %w", run.Job, run.ID, ErrNoRun)
	}
	return err
}

// Forget removes a run that turned out to be none: a question that could not be
// asked yet.
func (d *DB) Forget(ctx context.Context, run Run) error {
	_, err := d.exec(ctx, "DELETE FROM runs WHERE id = ? AND job = ? AND started_at = ?", run.ID, run.Job,
		run.StartedAt.UnixMilli())
	return err
}

const runColumns = "id, job, kind, slot, stamp, started_at, finished_at, outcome, error, bytes, detail, owner"

// Runs returns the newest runs that started at or after since, newest first, at
// most limit of them; of one job, or of all when job is "". Their order is that
// in which they began, whatever the clock said. A run whose process is gone is
// interrupted, also when nobody has recorded that yet.
func (d *DB) Runs(ctx context.Context, job string, since time.Time, limit int) ([]Run, error) {
	return list(ctx, d, scanRun, "SELECT "+runColumns+` FROM runs WHERE (?1 = '' OR job = ?1) AND started_at >= ?2
		ORDER BY id DESC LIMIT ?3`, job, millisOr(since, math.MinInt64), limit)
}

// EndedRuns returns the newest runs of a job that went well or failed, newest
// first, at most limit of them; with full only those that were to hold Chroma.
func (d *DB) EndedRuns(ctx context.Context, job string, full bool, limit int) ([]Run, error) {
	return list(ctx, d, scanRun, "SELECT "+runColumns+` FROM runs
		WHERE job = ?1 AND outcome IN ('ok', 'failed', 'timeout')
		AND (NOT ?2 OR json_extract(detail, '$.full') = 1) ORDER BY id DESC LIMIT ?3`, job, full, limit)
}

// LastRun returns the newest run of a job that has ended; false when there is
// none.
func (d *DB) LastRun(ctx context.Context, job string) (Run, bool, error) {
	return one(ctx, d, scanRun, "SELECT "+runColumns+` FROM runs WHERE job = ? AND outcome <> 'running'
		ORDER BY id DESC LIMIT 1`, job)
}

// endedBefore is the error of a run whose process is gone.
const endedBefore = "the process ended before the run did"

// CloseInterrupted marks as interrupted the runs whose process is gone, and
// returns them, oldest first. The daemon calls it when it starts. A command that
// is still at work keeps its run.
func (d *DB) CloseInterrupted(ctx context.Context, now time.Time) ([]Run, error) {
	type owned struct {
		id    int64
		owner string
	}
	scan := func(r row) (o owned, err error) {
		err = r.Scan(&o.id, &o.owner)
		return o, err
	}
	open, err := list(ctx, d, scan, "SELECT id, owner FROM runs WHERE outcome = 'running' ORDER BY id")
	if err != nil {
		return nil, err
	}
	var closed []Run
	for _, o := range open {
		if alive(o.owner) {
			continue
		}
		run, found, err := one(ctx, d, scanRun, `UPDATE runs SET outcome = 'interrupted', finished_at = ?,
			error = '`+endedBefore+`' WHERE id = ? AND outcome = 'running'
			RETURNING `+runColumns, now.UnixMilli(), o.id)
		if err != nil {
			return closed, err
		}
		if found {
			closed = append(closed, run)
		}
	}
	return closed, nil
}

func scanID(r row) (id int64, err error) {
	err = r.Scan(&id)
	return id, err
}

func scanRun(r row) (run Run, err error) {
	var detail sql.NullString
	var owner string
	err = r.Scan(&run.ID, &run.Job, &run.Kind, intoTime{&run.Slot}, &run.Stamp, intoTime{&run.StartedAt},
		intoTime{&run.FinishedAt}, &run.Outcome, &run.Error, &run.Bytes, &detail, &owner)
	if err == nil && run.Outcome == Running && !alive(owner) {
		run.Outcome, run.Error = Interrupted, endedBefore
	}
	if detail.Valid {
		run.Detail = json.RawMessage(detail.String)
	}
	return run, err
}
