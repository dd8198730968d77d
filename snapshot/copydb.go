package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// dbBusyTimeout is how long a lock of the application is waited for, and
// dbCopyDeadline bounds a copy through SQLite.
const (
	dbBusyTimeout  = 30 * time.Second
	dbCopyDeadline = 30 * time.Minute
)

func (t *takeRun) copyDB(ctx context.Context) error {
	t.o.Progress.Tell("database", 0, 0)
	artifact := Artifact{SourcePath: t.recorded().DB, Consistency: Consistent}
	defer func() { t.manifest.Artifacts[DB] = artifact }()
	dst := t.path(DBFile)
	if err := fsx.MkdirAll(filepath.Dir(dst), 0o750); err != nil {
		return err
	}
	if err := t.root(DB, filepath.Dir(t.recorded().DB)); err != nil {
		return err
	}
	copied, err := sqlite.Copied{}, t.from.noDB
	if err == nil {
		err = t.again(ctx, func() error {
			if copied, err = t.copyDBInOrder(ctx, dst); err != nil {
				return err
			}
			return t.judgeAndDigestDB(ctx)
		}, func() error { return t.dropDB(dst) })
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case t.o.Tolerant && (err != nil || len(t.result.Errors) > 0):
		return t.saveRawDB(ctx, err, &artifact)
	case err != nil:
		return err
	}
	artifact.Included, artifact.Method, artifact.Bytes, artifact.Files = true, copied.Method, copied.Bytes, 1
	return t.keepLive(t.from.db.Dir, t.from.db.Name, DBFile)
}

// copyDBInOrder copies the database through SQLite, or shares a file that holds it.
func (t *takeRun) copyDBInOrder(ctx context.Context, dst string) (sqlite.Copied, error) {
	switch {
	case t.linkDB(ctx):
		return sqlite.Copied{Method: methodLinked, Bytes: t.o.Proven.files[DBFile].Size}, nil
	case t.stored:
		return t.copyStoredDB(ctx, dst)
	}
	return sqlite.Copy(ctx, t.from.db, dst, sqlite.CopyOptions{
		Share:       t.o.Share.reflinks(),
		BusyTimeout: dbBusyTimeout,
		Deadline:    dbCopyDeadline,
	})
}

// again tries a copy once more that a tolerant take would else save raw and call
// invalid, where it failed for another reason than what lies there: a call that failed
// once, on this side or that, says nothing about the live store.
func (t *takeRun) again(ctx context.Context, copy, drop func() error) error {
	err := copy()
	if err == nil || !t.o.Tolerant || failure.KindOf(err) == failure.Invalid || ctx.Err() != nil {
		return err
	}
	if dropErr := drop(); dropErr != nil {
		return errors.Join(err, dropErr)
	}
	return copy()
}

// dropDB removes what an attempt to copy the database has left.
func (t *takeRun) dropDB(dst string) error {
	t.copied = nil // the copy that was digested goes
	for _, suffix := range dbSuffixes {
		if err := os.Remove(dst + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// dbSuffixes end the names of the files of a database.
var dbSuffixes = []string{"", "-wal", "-shm", "-journal"}

// judgeAndDigestDB checks the copy beside its digest, or not at all where the digest
// proves it.
func (t *takeRun) judgeAndDigestDB(ctx context.Context) error {
	if t.o.Proven == nil {
		group, judging := errgroup.WithContext(ctx)
		group.Go(func() error { return t.judgeDB(judging) })
		group.Go(func() error { return t.digestCopies(judging, DBFile) })
		return group.Wait()
	}
	if err := t.digestCopies(ctx, DBFile); err != nil {
		return err
	}
	if !t.o.Proven.holds(DBFile, t.copied) {
		return t.judgeDB(ctx)
	}
	info, err := sqlite.Inspect(ctx, t.path(DBFile))
	if err != nil {
		return err
	}
	t.manifest.DB = dbInfo(info)
	return nil
}

// judgeDB checks the copy and records what it is like.
func (t *takeRun) judgeDB(ctx context.Context) error {
	defer t.timeJudging()()
	info, inspectErr := sqlite.Inspect(ctx, t.path(DBFile))
	if err := checkDB(ctx, t.dir, filepath.FromSlash(DBFile), false, t.src.RequiredTables, &t.result); err != nil {
		return err
	}
	if len(t.result.Errors) > 0 {
		return nil // told there
	}
	if inspectErr != nil {
		return inspectErr
	}
	t.manifest.DB = dbInfo(info)
	return nil
}

func dbInfo(info sqlite.Info) *DBInfo {
	return &DBInfo{
		PageSize: info.PageSize, PageCount: info.PageCount, UserVersion: info.UserVersion,
		ApplicationID:       info.ApplicationID,
		JournalModeOfSource: info.JournalMode, Tables: info.Tables,
	}
}

// timeJudging counts the time until the function that it returns is called.
func (t *takeRun) timeJudging() func() {
	start := time.Now()
	return func() { t.judging += time.Since(start) }
}

// saveRawDB saves a database that SQLite cannot copy, or that is damaged, byte
// for byte with the files beside it: whoever repairs it needs them all. What is no
// file, or cannot be read, is left out and named.
func (t *takeRun) saveRawDB(ctx context.Context, cause error, artifact *Artifact) error {
	live := t.from.db
	if err := t.dropDB(t.path(DBFile)); err != nil {
		return err
	}
	if live.Dir == nil || errors.Is(cause, fs.ErrNotExist) {
		t.result.fail("db_snapshot_missing", "there was no live database")
	} else if cause != nil {
		t.result.fail("db_integrity_check_failed", "the live database could not be copied through SQLite: %v", cause)
	}
	artifact.Method, artifact.Consistency = "raw", Unverified
	for _, suffix := range dbSuffixes {
		stored := t.path(DBFile) + suffix
		if live.Dir == nil {
			continue
		}
		err := copyLiveFile(ctx, stored, live.Dir, live.Name+suffix, t.o.Share.reflinks())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, errSource) && ctx.Err() == nil:
			t.result.fail("db_file_left_out", "%s%s: %v", t.recorded().DB, suffix, err)
			continue
		case err != nil:
			return err
		}
		artifact.Included = artifact.Included || suffix == ""
		if err := t.keepLive(live.Dir, live.Name+suffix, DBFile+suffix); err != nil {
			return err
		}
	}
	artifact.Bytes, artifact.Files = treeSize(filepath.Dir(t.path(DBFile)))
	return nil
}

// errSource is of a live file that is none, or that cannot be read.
var errSource = errors.New("it could not be saved")

// copyLiveFile copies a live file to a new one in staging/, byte for byte and
// durably. It is errSource that failed where the file fails once more when it is
// only read.
func copyLiveFile(ctx context.Context, dst string, dir *tree.Dir, name string, share bool) (err error) {
	in, err := dir.OpenFile(name)
	if err != nil {
		return fmt.Errorf("%w: %w", errSource, reason(err))
	}
	defer in.Close()
	out, err := fsx.Create(dst, 0o640)
	if err != nil {
		return fmt.Errorf("copy %s: %v", name, err) // not %w: it is no file of the source that is missing
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(dst)
		}
	}()
	if _, err := fsx.CloneOrCopy(ctx, out, in, share); err != nil {
		if _, readErr := io.Copy(io.Discard, io.NewSectionReader(in, 0, math.MaxInt64)); readErr != nil {
			return fmt.Errorf("%w: %w", errSource, reason(readErr))
		}
		return err
	}
	return fsx.Sync(out)
}
