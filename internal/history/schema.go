package history

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations make the schema: the n-th brings a file from version n to n+1,
// where the version is SQLite's user_version. One that was released never
// changes.
var migrations = []string{`
CREATE TABLE slots (
	job         TEXT PRIMARY KEY,
	served      INTEGER NOT NULL, -- slots up to here are dealt with
	first_start INTEGER NOT NULL
) STRICT;
CREATE TABLE missed (
	job  TEXT NOT NULL,
	slot INTEGER NOT NULL,
	PRIMARY KEY (job, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	job         TEXT NOT NULL,
	kind        TEXT NOT NULL,
	slot        INTEGER,          -- NULL: not by the clock
	stamp       TEXT NOT NULL,    -- '': none
	started_at  INTEGER NOT NULL,
	finished_at INTEGER,          -- NULL: running
	outcome     TEXT NOT NULL CHECK (outcome IN ('running','ok','failed','skipped','interrupted','timeout')),
	error       TEXT NOT NULL,
	bytes       INTEGER NOT NULL,
	detail      TEXT,             -- JSON
	owner       TEXT NOT NULL     -- the process: boot/pid/start
) STRICT;
CREATE INDEX runs_by_job ON runs (job, started_at);
CREATE INDEX runs_by_time ON runs (started_at);
CREATE TABLE validations (        -- the newest of each snapshot
	stamp       TEXT PRIMARY KEY,
	checked_at  INTEGER NOT NULL,
	valid       INTEGER NOT NULL,
	errors      TEXT NOT NULL,    -- JSON array
	bytes       INTEGER NOT NULL,
	duration_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE drills (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	stamp       TEXT NOT NULL,
	source      TEXT NOT NULL,
	started_at  INTEGER NOT NULL,
	duration_ms INTEGER NOT NULL,
	pass        INTEGER NOT NULL,
	surprises   TEXT NOT NULL     -- JSON array
) STRICT;
CREATE TABLE pushes (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	target      TEXT NOT NULL,
	stamp       TEXT NOT NULL,
	push        TEXT NOT NULL UNIQUE,
	seq         INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	packs       INTEGER NOT NULL,
	duration_ms INTEGER NOT NULL,
	at          INTEGER NOT NULL
) STRICT;
CREATE INDEX pushes_by_target ON pushes (target, at);
CREATE TABLE alarms (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	leg         TEXT NOT NULL,
	since       INTEGER NOT NULL,
	level       TEXT NOT NULL,
	message     TEXT NOT NULL,
	notified_at INTEGER,
	resolved_at INTEGER           -- NULL: open
) STRICT;
CREATE UNIQUE INDEX alarms_open ON alarms (leg) WHERE resolved_at IS NULL;
CREATE TABLE legs (
	leg          TEXT PRIMARY KEY,
	last_success INTEGER,
	last_attempt INTEGER,
	last_error   TEXT NOT NULL
) STRICT;
`, `
ALTER TABLE validations ADD COLUMN failed_since INTEGER; -- the first of the checks in a row that failed; NULL: valid
UPDATE validations SET failed_since = checked_at WHERE NOT valid;
`, `
CREATE TABLE meta (               -- about the file itself
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT;
DROP INDEX runs_by_job;
CREATE INDEX runs_by_job ON runs (job, id);
`, `
ALTER TABLE drills ADD COLUMN note TEXT NOT NULL DEFAULT '';        -- what a person had to say of it
ALTER TABLE drills ADD COLUMN pre_restore TEXT NOT NULL DEFAULT ''; -- of a live one: what was live before it
`, `
ALTER TABLE alarms ADD COLUMN hint TEXT NOT NULL DEFAULT ''; -- the part of the message that says what to do
`}

// migrate brings the file to this version's schema, all or nothing. Of several
// processes that come at once, one does the work. It writes even when there is
// nothing to do: SQLite opens what it cannot write without a word, and so does
// it in a directory in which it cannot make a journal.
func (d *DB) migrate(ctx context.Context) error {
	if _, err := d.version(ctx, d.db()); err != nil {
		return err
	}
	return d.write(ctx, func(tx *sql.Tx) error {
		version, err := d.version(ctx, tx)
		if err != nil {
			return err
		}
		for ; version < len(migrations); version++ {
			if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
				return fmt.Errorf("migrate to schema %d: %w", version+1, err)
			}
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}

// CheckWritable fails where nothing can be written. It writes the schema's version, which
// is there already.
func (d *DB) CheckWritable(ctx context.Context) error { return d.migrate(ctx) }

// version reads the schema's version and refuses one from the future.
func (d *DB) version(ctx context.Context, from querier) (version int, err error) {
	if err := from.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	if version > len(migrations) {
		return 0, &newerError{version: version}
	}
	return version, nil
}
