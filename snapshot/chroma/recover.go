package chroma

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// recoverJournal makes the database of a raw copy one self-contained file: a journal
// that was left by a crash is rolled back and a WAL is checkpointed, as SQLite
// would do it on the next start. What SQLite cannot settle stays as it is, for
// the validator to refuse.
func recoverJournal(ctx context.Context, m *mirror) error {
	found := false
	for name := range m.have {
		found = found || isSidecar(name)
	}
	if _, ok := m.have[databaseName]; !ok || !found {
		return nil
	}
	if err := m.own(ctx, m.have[databaseName]); err != nil {
		return err
	}
	if rollForward(ctx, databaseIn(m.dst)) != nil {
		return ctx.Err()
	}
	for name, e := range m.have {
		if !isSidecar(name) {
			continue
		}
		if name != databaseName+"-shm" && unfinished(m.path(name)) {
			continue // SQLite could not settle it
		}
		if err := os.Remove(m.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(m.have, e.Path)
	}
	info, err := os.Lstat(databaseIn(m.dst))
	if err != nil {
		return err
	}
	e := m.have[databaseName]
	e.Size = info.Size()
	m.have[databaseName] = e
	return nil
}

// unfinished reports whether the journal or WAL at path holds something. One that
// begins with zero is one that was committed and kept for the next time.
func unfinished(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	return holdsSomething(f)
}

// unfinishedIn is unfinished in a directory of somebody else's.
func unfinishedIn(dir *tree.Dir, name string) bool {
	f, err := dir.OpenFile(name)
	if err != nil {
		return false
	}
	return holdsSomething(f)
}

func holdsSomething(f *os.File) bool {
	defer f.Close()
	var first [1]byte
	n, _ := f.Read(first[:])
	return n == 1 && first[0] != 0
}

// rollForward opens a database so that SQLite recovers it, and closes it.
func rollForward(ctx context.Context, path string) (err error) {
	db, err := sqlite.OpenPrivate(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&n); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}
