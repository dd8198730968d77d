package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

func cloneThen(then func()) func(context.Context, *os.File, *os.File, bool) (fsx.CopyMethod, error) {
	return func(ctx context.Context, dst, src *os.File, share bool) (fsx.CopyMethod, error) {
		method, err := fsx.CloneOrCopy(ctx, dst, src, share)
		then()
		return method, err
	}
}

// The write lock that the caller holds must survive the backup, and other
// processes must not get past it.
func TestBackupOneStepUnderTheCallersLock(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "chroma.sqlite3"), Journal: "delete"}
	p := filled(t, j, 3000)
	p.do(t, "PRAGMA busy_timeout = 0")
	db, err := liveAt(j.Path).OpenReadWrite(context.Background(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	blocked := func() bool {
		p.Stdin.Write([]byte("commit 1\n"))
		return strings.Contains(p.Line(), "database is locked")
	}
	dst := filepath.Join(dir, "copy.db")
	if !blocked() {
		t.Fatal("the lock does not hold")
	}
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if !blocked() {
			t.Errorf("before %s %s another process could write", op, path)
		}
		return nil
	})
	err = BackupOneStep(context.Background(), liveAt(j.Path), dst, time.Second)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	if !blocked() {
		t.Error("the backup dropped the caller's lock")
	}
	if last := sound(t, dst); last != 3000 {
		t.Errorf("the copy ends at %d", last)
	}
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if got := p.do(t, "commit 1"); got != "3001" {
		t.Errorf("the writer goes on at %s", got)
	}
}

func TestBackupOneStepIsCancelled(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "delete"}
	filled(t, j, 3000)
	ctx, cancel := context.WithCancel(context.Background())
	stop := fsx.Observe(func(op fsx.Op, _ string) error {
		if op == fsx.OpWrite {
			cancel()
		}
		return nil
	})
	dst := filepath.Join(dir, "copy.db")
	err := BackupOneStep(ctx, liveAt(j.Path), dst, time.Second)
	stop()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if state, err := stateOf(dst); err != nil || state.exists {
		t.Errorf("a copy was left: %v", err)
	}
}
