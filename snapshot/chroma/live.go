package chroma

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// How long the parts of a live copy wait.
const (
	busyTimeout = 30 * time.Second      // for SQLite's locks, each time
	idleTimeout = 5 * time.Second       // for a persist to end, in an optimistic try
	lockedIdle  = 30 * time.Second      // the same, under the write lock
	idlePoll    = 10 * time.Millisecond // between two looks
)

// CopyLive copies the Chroma directory src, which a running Chroma may be
// writing to, to dst, which must not exist; its parent must.
//
// First it tries without keeping anybody waiting: it notes how far the vector
// segments have got, copies them, copies chroma.sqlite3 through SQLite, and
// accepts the result only if no file has moved, the database's copy names the
// same numbers, and no persist was under way. After OptimisticTries it takes
// SQLite's write lock, under which Chroma can neither begin nor finish a write,
// for as long as the copy takes and at most LockDeadline. Where the lock cannot
// be had it fails and says what would help. Chroma's readers never wait for it.
//
// Each copy is validated. Everything is durable when it returns nil. When the
// error is of kind Invalid the copy is there, durable, and Copied describes it;
// after any other error nothing is left. Nothing is written to src, except that
// taking the write lock rolls back the journal of a Chroma that has crashed, and
// nothing is left beside its database. (Chroma's has a rollback journal. One that
// was put in WAL mode and that nobody has open may get an empty -wal and -shm.)
//
// A directory without chroma.sqlite3 is copied as CopyCold does, and Unverified.
//
// While it runs, nothing else in this process may open and close src's
// chroma.sqlite3 except through SQLite: closing any descriptor of a file drops
// all of a process's locks on it, silently.
func CopyLive(ctx context.Context, src *tree.Dir, dst string, o Options) (c Copied, err error) {
	if ok, err := present(src, databaseName); err != nil {
		return c, err
	} else if !ok {
		return CopyCold(ctx, src, dst, o)
	}
	return copyAndJudge(ctx, src, dst, o, quietTries, func() (Copied, error) { return copyLive(ctx, src, dst, o) })
}

// live is one live copy.
type live struct {
	*mirror
	from     sqlite.Live   // chroma.sqlite3 of the live directory
	busy     time.Duration // how long SQLite's locks are waited for, each time
	database Entry         // chroma.sqlite3, as it was last seen in the source
}

func copyLive(ctx context.Context, src *tree.Dir, dst string, o Options) (c Copied, err error) {
	skip := func(path string) bool { return path == databaseName || isSidecar(path) }
	m, err := newMirror(src, dst, o.Share, skip)
	if err != nil {
		return c, err
	}
	l := &live{mirror: m, from: liveIn(src), busy: busyTimeout}
	if o.LockDeadline > 0 {
		l.busy = min(l.busy, o.LockDeadline)
	}
	if l.database, err = l.lookAtDatabase(); err != nil {
		return c, err
	}
	tries, why, err := l.optimistic(ctx, o.OptimisticTries)
	if err != nil {
		return c, err
	}
	method, locked := fmt.Sprintf("live: optimistic (%d tries)", tries), time.Duration(0)
	if tries == 1 {
		method = "live: optimistic (1 try)"
	}
	if why != "" {
		method = "live: write lock"
		if locked, err = l.locked(ctx, o, why); err != nil {
			return c, err
		}
	}
	c = l.describe(method)
	c.Locked = locked
	return l.withDatabase(c)
}

// withDatabase adds chroma.sqlite3 to what was copied, and makes all durable.
func (l *live) withDatabase(c Copied) (Copied, error) {
	info, err := os.Lstat(databaseIn(l.dst))
	if err != nil {
		return c, err
	}
	l.database.Size = info.Size()
	c.Entries = append(c.Entries, l.database)
	c.Files++
	c.Bytes += l.database.Size
	return c, l.finish(l.database)
}

func (l *live) lookAtDatabase() (Entry, error) {
	info, err := l.src.Lstat(databaseName)
	if err != nil {
		return Entry{}, err
	}
	e, err := newEntry(databaseName, info)
	if err == nil && e.Type != TypeFile {
		err = &failure.Error{Op: "chroma", Subject: l.from.Path(), Kind: failure.Refused,
			Err:  errors.New("it is not a regular file"),
			Hint: "set chroma_path to the directory that holds the file itself"}
	}
	return e, err
}

// optimistic tries to copy between two writes. It returns the reason why the last
// try was not accepted, or "" when it was.
func (l *live) optimistic(ctx context.Context, most int) (tries int, why string, err error) {
	why = "no optimistic try was asked for"
	for tries = 1; tries <= most; tries++ {
		if why, err = l.try(ctx); err != nil || why == "" {
			return tries, why, err
		}
	}
	return most, why, nil
}

// try makes one copy and says why it is not acceptable. The order matters: what
// is compared is read before the first byte is copied and after the last.
func (l *live) try(ctx context.Context) (why string, err error) {
	noted, err := liveSeqs(ctx, l.from, l.busy)
	if err != nil && ctx.Err() == nil && unfinishedIn(l.src, databaseName+"-journal") {
		// Chroma died in mid-transaction. A reader may not roll it back; whoever
		// takes the write lock will, as Chroma itself would on its next start.
		return "the database has an unfinished transaction", nil
	}
	if err != nil {
		return "", l.unreadable(err)
	}
	seen, why, err := l.waitIdle(ctx, idleTimeout)
	if err != nil || why != "" {
		return why, err
	}
	if err := l.update(ctx, seen); err != nil {
		return "", err
	}
	// Looked at twice: the database need not be copied for nothing.
	if why, err := l.recheck(); err != nil || why != "" {
		return why, err
	}
	if err := l.copyDatabase(ctx); err != nil {
		return "", err
	}
	if why, err := l.recheck(); err != nil || why != "" {
		return why, err
	}
	copied, err := storedSeqs(ctx, databaseIn(l.dst))
	if err == nil && !maps.Equal(noted, copied) {
		why = "a persist ended meanwhile (max_seq_id has moved)"
	}
	return why, err
}

// waitIdle waits until no persist is under way and every file is old enough for its
// time to be telling, and returns what it saw. Past the timeout it says why not.
func (l *live) waitIdle(ctx context.Context, timeout time.Duration) (seen []Entry, why string, err error) {
	for end := time.Now().Add(timeout); ; {
		if seen, err = l.scan(); err != nil {
			return nil, "", err
		}
		now := time.Now()
		if why, _ = persistRunning(seen, now); why == "" {
			why = justWritten(seen, now)
		}
		if why == "" || now.After(end) {
			return seen, why, nil
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-time.After(idlePoll):
		}
	}
}

// recheck looks again and says what has moved since it was copied.
func (l *live) recheck() (why string, err error) {
	seen, err := l.scan()
	if err != nil {
		return "", err
	}
	if why = l.changed(seen); why == "" {
		why, _ = persistRunning(seen, time.Now())
	}
	return why, nil
}

// copyDatabase copies chroma.sqlite3 through SQLite, which knows of the locks
// that this process holds; a raw copy would drop them.
func (l *live) copyDatabase(ctx context.Context) (err error) {
	if err := os.Remove(databaseIn(l.dst)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if l.database, err = l.lookAtDatabase(); err != nil {
		return err
	}
	return sqlite.BackupOneStep(ctx, l.from, databaseIn(l.dst), l.busy)
}

func (l *live) unreadable(err error) error {
	var f *failure.Error
	if errors.As(err, &f) || errors.Is(err, context.Canceled) {
		return err
	}
	return &failure.Error{Op: "chroma", Subject: l.from.Path(), Err: err,
		Hint: "let this process read the file and its directory, and look whether something holds its lock"}
}

// liveIn returns the place of a live directory's database.
func liveIn(dir *tree.Dir) sqlite.Live { return sqlite.Live{Dir: dir, Name: databaseName} }

// liveSeqs returns how far each vector segment had got in a live database, whose
// locks are waited for.
func liveSeqs(ctx context.Context, l sqlite.Live, busy time.Duration) (map[string]string, error) {
	db, err := l.OpenReadOnly(ctx, busy)
	if err != nil {
		return nil, err
	}
	seqs, err := vectorSeqs(ctx, db)
	return seqs, errors.Join(err, db.Close())
}

// storedSeqs is liveSeqs of a copy.
func storedSeqs(ctx context.Context, path string) (map[string]string, error) {
	db, err := sqlite.OpenImmutable(path)
	if err != nil {
		return nil, err
	}
	seqs, err := vectorSeqs(ctx, db)
	return seqs, errors.Join(err, db.Close())
}

// vectorSeqs returns how far each vector segment had got. A database of another
// format has none; the validator will say so.
func vectorSeqs(ctx context.Context, db *sql.DB) (seqs map[string]string, err error) {
	if lacks, err := missingSchema(ctx, db); err != nil || lacks != "" {
		return nil, err
	}
	seqs = map[string]string{}
	const query = `SELECT CAST(segment_id AS TEXT), quote(seq_id) FROM max_seq_id
		WHERE segment_id IN (SELECT id FROM segments WHERE scope = 'VECTOR')`
	err = eachRow(ctx, db, query, func(rows *sql.Rows) error {
		var id, seq string
		err := rows.Scan(&id, &seq)
		seqs[id] = seq
		return err
	})
	return seqs, err
}
