// Package fsxtest injects faults into package fsx: it fails the k-th
// file-changing call of a piece of code, or kills the process there.
package fsxtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/provetest"
)

// ErrInjected is what an injected failure is.
var ErrInjected = errors.New("injected failure")

// injected is ErrInjected, and the error of the system that FSXTEST_ERRNO names.
func injected(t *testing.T) error {
	t.Helper()
	name := os.Getenv("FSXTEST_ERRNO")
	if name == "" {
		return ErrInjected
	}
	for errno := range syscall.Errno(200) {
		if unix.ErrnoName(errno) == name {
			return fmt.Errorf("%w: %w", ErrInjected, errno)
		}
	}
	t.Fatalf("FSXTEST_ERRNO is %q, no error of the system", name)
	return nil
}

// EachFailure runs body once with its first file-changing call failing, once
// with its second, and so on until a run has no failure left, which must give
// no error. After every failing run, check is called with that run's error and
// the call that failed. body makes anew what it
// needs for a run.
func EachFailure(t *testing.T, body func() error, check func(k int, at string, err error)) {
	t.Helper()
	failure := injected(t)
	for k := 1; ; k++ {
		var calls atomic.Int64
		var at atomic.Value
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			if calls.Add(1) == int64(k) {
				at.Store(string(op) + " " + path)
				return failure
			}
			return nil
		})
		err := func() error {
			defer stop() // also when body ends the test
			return body()
		}()
		if at.Load() == nil {
			if err != nil {
				t.Fatalf("with no failure injected (call %d of %d): %v", k, calls.Load(), err)
			}
			if k == 1 {
				t.Fatal("no file-changing call was made: nothing was tested")
			}
			provetest.Points(t, k-1)
			return
		}
		check(k, at.Load().(string), err)
	}
}

// killEnv tells a re-executed test binary at which call to die.
const killEnv = "FSXTEST_KILL_AT"

// KillEnv is the environment entry that makes KillIfAsked kill the process just
// before its k-th file-changing call.
func KillEnv(k int) string { return killEnv + "=" + strconv.Itoa(k) }

// KillIfAsked arms the kill that KillEnv asked for. A re-executed test binary
// calls it before the code under test. SIGKILL cannot be caught: no deferred
// function runs, as when the machine loses power or the kernel runs out of
// memory.
func KillIfAsked() {
	k, err := strconv.Atoi(os.Getenv(killEnv))
	if err != nil {
		return
	}
	var calls atomic.Int64
	fsx.Observe(func(op fsx.Op, path string) error {
		if calls.Add(1) == int64(k) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
}

// Tree lists every path below dir, one a line, for comparing what a failed run
// left behind.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		b.WriteString(path + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// State is Tree with what each path holds: type and permissions, owner, digest
// or target. It is for proving that something was left as it was. Times are not
// part of it: merely opening a database may touch its directory.
func State(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		content := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			if content, err = os.Readlink(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %d:%d %s %s\n", info.Mode(), owner.Uid, owner.Gid, strings.TrimPrefix(path, dir), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
