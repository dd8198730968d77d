package chroma

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// DefaultLockDeadline bounds the time under the write lock where Options do not.
const DefaultLockDeadline = 5 * time.Minute

// Options says how a copy may be made. The zero value copies without reflinks
// and, live, goes to the write lock at once.
type Options struct {
	Method          Method        // for Copy; "" is MethodLive
	Share           bool          // reflink where the file system can
	OptimisticTries int           // copies to try before the write lock is taken
	LockDeadline    time.Duration // for the write lock, waiting for it included; 0 means DefaultLockDeadline
	Freeze          Freeze        // for MethodFreeze
	Scratch         string        // a directory for the snapshot of MethodBtrfs

	// Beside, which may be nil, runs while a finished copy is validated, for that
	// keeps one core busy: each copy's, so that the last is of the one that stays.
	Beside func(context.Context) error

	// Stored, which may be nil, may name a file outside of the copy that holds just
	// what an open one of a directory that nobody writes to does: it is linked,
	// mode and time as they are, instead of copied.
	Stored func(ctx context.Context, e Entry, live *os.File) (path string)

	// Known, which may be nil, is asked first about each finished copy, and reports
	// whether the same bytes have been validated by this run, without a finding.
	Known func(context.Context) (bool, error)
}

// judge validates a finished copy.
func (o Options) judge(ctx context.Context, dst string) (report Report, err error) {
	if o.Known != nil {
		if known, err := o.Known(ctx); known || err != nil {
			return Report{Consistency: Consistent}, err
		}
	}
	group, judging := errgroup.WithContext(ctx)
	if o.Beside != nil {
		group.Go(func() error { return o.Beside(judging) })
	}
	group.Go(func() (err error) {
		report, err = Validate(judging, dst)
		return err
	})
	return report, group.Wait()
}

// Copied says what was copied and how.
type Copied struct {
	Method      string        // "live: optimistic (2 tries)", "live: write lock", "freeze", "btrfs", "cold", "raw"
	Bytes       int64         // of all files of the copy
	Files       int           // regular files of the copy
	Consistency string        // Consistent or Unverified
	Warnings    []Finding     // what an operator should know although the copy is good
	Entries     []Entry       // what was copied, by path, with the owners, modes and times of the source
	Report      Report        // the validator's judgement of the copy
	Locked      time.Duration // how long Chroma's writers were kept waiting, by the write lock or a freeze
}

// CopyCold copies the Chroma directory src, which no service writes to, to dst,
// which must not exist; its parent must. It proves by size, time and inode that
// nothing moved meanwhile, settles an unfinished transaction in the copy as
// SQLite would on the next start, and has the copy validated: a directory whose
// format is not recognised is copied all the same and marked Unverified.
//
// Everything is durable when it returns nil. When the error is of kind Invalid
// the copy is there, durable, and Copied describes it; after any other error
// nothing is left. No SQLite connection of this process may be open on src: the
// copy would drop its locks.
func CopyCold(ctx context.Context, src *tree.Dir, dst string, o Options) (c Copied, err error) {
	return copyAndJudge(ctx, src, dst, o, quietTries, func() (Copied, error) { return copyCold(ctx, src, dst, o) })
}

func copyCold(ctx context.Context, src *tree.Dir, dst string, o Options) (c Copied, err error) {
	m, err := copyQuiescent(ctx, src, dst, o)
	if err != nil {
		return c, err
	}
	return conclude(ctx, m, string(MethodCold))
}

// copyQuiescent copies a directory that nobody writes to, and proves that nothing
// has moved meanwhile.
func copyQuiescent(ctx context.Context, src *tree.Dir, dst string, o Options) (*mirror, error) {
	m, err := newMirror(src, dst, o.Share, func(string) bool { return false })
	if err != nil {
		return nil, err
	}
	m.stored = o.Stored
	moved := ""
	for try := 0; try < max(o.OptimisticTries, 3); try++ {
		seen, err := m.scan()
		if err != nil {
			return nil, err
		}
		if err := m.update(ctx, seen); err != nil {
			return nil, err
		}
		if seen, err = m.scan(); err != nil {
			return nil, err
		}
		if moved = m.changed(seen); moved == "" {
			return m, nil
		}
	}
	return nil, &failure.Error{Op: "chroma", Subject: src.Path(), Kind: failure.Refused, Err: errors.New(moved),
		Hint: `stop the service first, or set chroma_method = "live"`}
}

// conclude settles a raw copy's database, describes the copy and makes it durable.
func conclude(ctx context.Context, m *mirror, method string) (Copied, error) {
	if err := recoverJournal(ctx, m); err != nil {
		return Copied{}, err
	}
	c := m.describe(method)
	return c, m.finish()
}

// How many copies are made before the fault must be the source's. One that was
// made of an instant may have met a pickle that was being written, which its
// times do not show: about one in twenty under a constant writer.
const (
	quietTries   = 2
	instantTries = 4
)

// copyAndJudge makes a copy and has it validated. A refused one is made anew,
// until tries copies were refused. An invalid copy is left where it is.
func copyAndJudge(
	ctx context.Context, src *tree.Dir, dst string, o Options, tries int, make func() (Copied, error),
) (c Copied, err error) {
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		return c, errors.Join(err, &os.PathError{Op: "mkdir", Path: dst, Err: fs.ErrExist})
	}
	defer func() {
		if err != nil && failure.KindOf(err) != failure.Invalid {
			_ = fsx.RemoveAll(dst)
		}
	}()
	for try := 1; ; try++ {
		if c, err = make(); err != nil {
			return c, err
		}
		if c.Report, err = o.judge(ctx, dst); err != nil {
			return c, err
		}
		slices.SortFunc(c.Entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
		c.Consistency = c.Report.Consistency
		c.Warnings = append(c.Warnings, c.Report.Warnings...)
		if len(c.Report.Errors) == 0 {
			return c, nil
		}
		if try == tries {
			return c, &failure.Error{Op: "chroma", Subject: src.Path(), Kind: failure.Invalid,
				Err:  fmt.Errorf("%d copies in a row do not validate: %w", try, c.Report.Err(dst)),
				Hint: "look at the live directory: it is probably damaged"}
		}
		if err := fsx.RemoveAll(dst); err != nil {
			return c, err
		}
	}
}

// describe fills in what the mirror knows.
func (m *mirror) describe(method string) Copied {
	c := Copied{Method: method, Entries: m.entries()}
	for _, e := range c.Entries {
		if e.Type == TypeFile {
			c.Files++
			c.Bytes += e.Size
		}
	}
	if _, atRest := persistRunning(c.Entries, time.Now()); atRest != "" {
		c.Warnings = append(c.Warnings, Finding{CodeCutShort, atRest + ", and nothing has written to them since"})
	}
	return c
}

// present reports whether a directory has an entry.
func present(dir *tree.Dir, name string) (bool, error) {
	_, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func databaseIn(dir string) string { return filepath.Join(dir, databaseName) }
