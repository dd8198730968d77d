package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// peekTimeout bounds the wait for a lock while the source is only looked at.
const peekTimeout = 5 * time.Second

// preflight finds what would make a snapshot worthless or impossible before
// anything is written.
func (s *Store) preflight(ctx context.Context, src Sources, o TakeOptions) error {
	if !o.Tolerant {
		if err := s.checkDBSource(ctx, src); err != nil {
			return err
		}
		if o.Full {
			if err := checkChromaSource(src.Chroma); err != nil {
				return err
			}
		}
	}
	need, err := estimate(src, o.Full)
	if err != nil && !o.Tolerant {
		return err
	}
	return fsx.RequireFree(s.dir, need, o.MinFree)
}

func (s *Store) checkDBSource(ctx context.Context, src Sources) error {
	last, hadRows := s.lastTables()
	shrunk := func(what string) error {
		return &failure.Error{Op: "backup", Subject: src.DB,
			Err:  fmt.Errorf("shrunk: the database %s, and in snapshot %s it was not empty", what, last),
			Hint: "find out what emptied it; to go back: atobackupd restore " + string(last)}
	}
	if info, err := os.Stat(src.DB); err == nil && info.Mode().IsRegular() && info.Size() == 0 && hadRows {
		return shrunk("has 0 bytes")
	}
	if err := sqlite.Preflight(src.DB); err != nil {
		return err
	}
	overview, err := sqlite.Peek(ctx, src.DB, peekTimeout)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// What SQLite says of it is told by the copy, with the hint that fits.
		return nil
	}
	if !overview.HasRows && hadRows {
		return shrunk("has no rows")
	}
	for _, table := range src.RequiredTables {
		if !slices.Contains(overview.Tables, table) {
			return &failure.Error{Op: "backup", Subject: src.DB,
				Err:  fmt.Errorf("required_tables: there is no table %q", table),
				Hint: "this is not the database that was meant, or atocore.required_tables is out of date"}
		}
	}
	return nil
}

// lastTables finds the newest valid snapshot with a manifest and tells whether
// its database had any rows.
func (s *Store) lastTables() (Stamp, bool) {
	list, _, err := s.List(time.Now())
	if err != nil {
		return "", false
	}
	for _, snap := range slices.Backward(list) {
		if !snap.IsValid() || snap.Manifest == nil || snap.Manifest.DB == nil || !snap.Kind.HoldsSlots() {
			continue
		}
		for _, rows := range snap.Manifest.DB.Tables {
			if rows > 0 {
				return snap.Stamp, true
			}
		}
		return snap.Stamp, false
	}
	return "", false
}

func checkChromaSource(dir string) error {
	if dir == "" {
		return &failure.Error{Op: "backup", Subject: "chroma", Kind: failure.Config,
			Err: errors.New("a full snapshot was asked for and no Chroma directory is configured"), Hint: "set atocore.chroma_path, or use --no-chroma"}
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &failure.Error{Op: "backup", Subject: dir, Err: errors.New("the Chroma directory does not exist"),
			Hint: "is its disk mounted? correct atocore.chroma_path, or use --no-chroma"}
	case err != nil:
		return &failure.Error{Op: "backup", Subject: dir, Err: err, Hint: "this process must be able to read it"}
	case !info.IsDir():
		return &failure.Error{Op: "backup", Subject: dir, Err: errors.New("it is not a directory"), Hint: "correct atocore.chroma_path"}
	}
	return nil
}

// estimate adds up what a plain copy of the sources would take.
func estimate(src Sources, full bool) (int64, error) {
	var sum int64
	add := func(path string) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	add(src.DB)
	add(src.DB + "-wal")
	add(src.Registry)
	if !full || src.Chroma == "" {
		return sum, nil
	}
	err := filepath.WalkDir(src.Chroma, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // Chroma removed it meanwhile
				return nil
			}
			return err
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum, err
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
