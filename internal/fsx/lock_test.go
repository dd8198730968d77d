package fsx_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
)

func TestLockFileNamesItsHolderAndDiesWithIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	holder := start(t, "lock file", path, "taking a daily snapshot")
	words := fmt.Sprintf("pid %d (taking a daily snapshot)", holder.Process.Pid)

	_, err := fsx.LockFile(
		context.Background(),
		path,
		"pruning",
		0,
		func(string) { t.Error("waiting was announced without any wait") },
	)
	if failure.KindOf(err) != failure.Locked ||
		err.Error() != "lock: "+path+": held by "+words+": wait for it to finish, or raise --lock-timeout" {
		t.Errorf("got %v", err)
	}
	// A waiter is told once whom it waits for, and gets the lock by the death.
	var told []string
	lock, err := fsx.LockFile(context.Background(), path, "pruning", time.Minute, func(h string) {
		told = append(told, h)
		holder.Kill()
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0] != words {
		t.Errorf("told %q, want %q once", told, words)
	}
	if text, _ := os.ReadFile(path); string(text) != fmt.Sprintf("pid %d (pruning)\n", os.Getpid()) {
		t.Errorf("the lock file says %q", text)
	}
	lock.Unlock()
	lock.Unlock()
	(*fsx.Lock)(nil).Unlock()
	if text, _ := os.ReadFile(path); len(text) != 0 {
		t.Errorf("after Unlock the lock file says %q", text)
	}
	again, err := fsx.LockFile(context.Background(), path, "again", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Unlock()
}

// Whoever waits is told once, however long it takes, and may ask not to be told.
func TestLockFileTellsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	start(t, "lock file", path, "x")
	told := 0
	for _, waiting := range []func(string){nil, func(string) { told++ }} {
		_, err := fsx.LockFile(context.Background(), path, "y", 350*time.Millisecond, waiting)
		if failure.KindOf(err) != failure.Locked {
			t.Errorf("got %v", err)
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestLockFileEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	start(t, "lock file", path, "x")
	ctx, cancel := context.WithCancel(context.Background())
	_, err := fsx.LockFile(ctx, path, "y", time.Hour, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) || failure.KindOf(err) != failure.Interrupted {
		t.Errorf("got %v", err)
	}
}

// Two locks in one process exclude each other too: flock belongs to the open
// file, so that the daemon's jobs are told apart.
func TestLockFileExcludesTheSameProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	lock, err := fsx.LockFile(context.Background(), path, "x", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if _, err := fsx.LockFile(context.Background(), path, "y", 0, nil); failure.KindOf(err) != failure.Locked {
		t.Errorf("got %v", err)
	}
}

// A process that is being started has copies of all descriptors until its exec.
func TestUnlockLeavesNothingToCopies(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	lock, err := fsx.LockFile(context.Background(), path, "x", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var mine []int
	for _, entry := range fds {
		if target, _ := os.Readlink("/proc/self/fd/" + entry.Name()); target == path {
			fd, err := strconv.Atoi(entry.Name())
			if err != nil {
				t.Fatal(err)
			}
			mine = append(mine, fd)
		}
	}
	if len(mine) != 1 {
		t.Fatalf("%d descriptors of the lock file", len(mine))
	}
	duplicate, err := syscall.Dup(mine[0])
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(duplicate)
	lock.Unlock()
	again, err := fsx.LockFile(context.Background(), path, "y", 0, nil)
	if err != nil {
		t.Fatalf("after Unlock: %v", err)
	}
	again.Unlock()
}

func TestLockFileFollowsNoLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	if err := os.Symlink("elsewhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := fsx.LockFile(context.Background(), path, "x", 0, nil); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("got %v", err)
	}
}

func TestLockOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock := func(exclusive bool) (*fsx.Lock, bool, error) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return fsx.LockOpen(f, exclusive)
	}
	reader := start(t, "share", path)
	if l, ok, err := lock(true); ok || err != nil || l != nil {
		t.Errorf("exclusive beside shared: %v, %v", ok, err)
	}
	shared, ok, err := lock(false)
	if !ok || err != nil {
		t.Fatalf("shared beside shared: %v, %v", ok, err)
	}
	reader.Kill()
	shared.Unlock()
	exclusive, ok, err := lock(true)
	if !ok || err != nil {
		t.Fatalf("after the other's death: %v, %v", ok, err)
	}
	if _, ok, _ := lock(false); ok {
		t.Error("shared beside exclusive")
	}
	exclusive.Unlock()
	closed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, _, err := fsx.LockOpen(closed, false); err == nil {
		t.Error("a closed file was locked")
	}
}

// A lock file that somebody else owns is enough to lock.
func TestLockFileOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := forktest.Command("lock file", []string{path, "x"})
	if os.Geteuid() == 0 {
		forktest.As(65534, cmd)
	}
	holder := forktest.StartWhen(t, "ready", cmd)
	if _, err := fsx.LockFile(context.Background(), path, "y", 0, nil); failure.KindOf(err) != failure.Locked {
		t.Errorf("got %v", err)
	}
	holder.Kill()
}
