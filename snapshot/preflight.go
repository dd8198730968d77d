package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// peekTimeout bounds the wait for a lock while the source is only looked at.
const peekTimeout = 5 * time.Second

// preflight finds what would make a snapshot worthless or impossible before
// anything is written.
func (s *Store) preflight(ctx context.Context, src Sources, from *held, o TakeOptions) error {
	if err := errors.Join(s.checkOwnDirs(), s.checkPlace(), s.CheckWritable()); err != nil {
		return err
	}
	if !o.Tolerant {
		if err := checkDBSource(ctx, src, from); err != nil {
			return err
		}
		if from.noChroma != nil {
			return from.noChroma
		}
	}
	need, err := s.estimate(from, o)
	if err != nil && !o.Tolerant {
		return err
	}
	return fsx.RequireFree(s.staging(), need, o.MinFree)
}

// CheckWritable finds out before the copying, not after it, that a snapshot
// cannot be staged or published here. The snapshots directory may be AtoCore's.
func (s *Store) CheckWritable() error {
	for _, dir := range []string{s.staging(), s.snapshots()} {
		if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			hint := fmt.Sprintf("let uid %d write there", os.Geteuid())
			if errors.Is(err, unix.EROFS) {
				hint = "mount it writable"
			}
			return &failure.Error{Op: "backup.dir", Subject: dir, Kind: failure.Config, Err: err, Hint: hint}
		}
	}
	return nil
}

func checkDBSource(ctx context.Context, src Sources, from *held) error {
	if from.noDB != nil {
		return from.noDB
	}
	if err := sqlite.Preflight(from.db); err != nil {
		return err
	}
	return RequireTables(ctx, from.db, src.RequiredTables)
}

// RequireTables refuses a database that can be read and lacks one of the tables.
// What keeps it from being read is for the copy to say, with the hint that fits.
func RequireTables(ctx context.Context, db sqlite.Live, tables []string) error {
	overview, err := sqlite.Peek(ctx, db, peekTimeout)
	if err != nil {
		return ctx.Err()
	}
	for _, table := range tables {
		isIt := func(name string) bool { return strings.EqualFold(name, table) } // as SQLite's names
		if !slices.ContainsFunc(overview.Tables, isIt) {
			return &failure.Error{Op: "backup", Subject: db.Path(),
				Err:  fmt.Errorf("required_tables: there is no table %q", table),
				Hint: "this is not the database that was meant, or atocore.required_tables is out of date"}
		}
	}
	return nil
}

// isNoSpace knows a full disk also from SQLite, which does not pass on the
// system's error but has one of its own, with these words.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
		err != nil && strings.Contains(err.Error(), "database or disk is full")
}
