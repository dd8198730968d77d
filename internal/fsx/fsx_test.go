package fsx_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Whatever call fails, a reader sees old or new, and no temporary is left.
func TestWriteFileFailing(t *testing.T) {
	var dir, path string
	fsxtest.EachFailure(t, func() error {
		dir = t.TempDir()
		path = write(t, filepath.Join(dir, "doc"), "old")
		return fsx.WriteFile(path, []byte("new"), 0o640)
	}, func(k int, at string, err error) {
		if !errors.Is(err, fsxtest.ErrInjected) {
			t.Errorf("%s: %v", at, err)
		}
		if tree := fsxtest.Tree(t, dir); tree != ".\ndoc\n" {
			t.Errorf("%s left\n%s", at, tree)
		}
		want := "old"
		if strings.HasPrefix(at, string(fsx.OpSyncDir)) {
			want = "new" // it is there, and may not survive a power cut
		}
		if got := content(t, path); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	})
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o640 || content(t, path) != "new" {
		t.Errorf("in the end: %v, %v", info, err)
	}
}

func TestWriteFileKilled(t *testing.T) {
	for k := 1; ; k++ {
		dir := t.TempDir()
		path := write(t, filepath.Join(dir, "doc"), "old")
		cmd := forktest.Command("write", []string{path, "new"})
		cmd.Env = append(cmd.Env, fsxtest.KillEnv(k))
		out, err := cmd.CombinedOutput()
		if err == nil {
			if k < 4 || content(t, path) != "new" {
				t.Errorf("after %d kills: %q", k-1, content(t, path))
			}
			return
		}
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%v: %s", err, out)
		}
		if got := content(t, path); got != "old" && got != "new" {
			t.Errorf("killed at %d: %q", k, got)
		}
	}
}

func TestWriteFileVia(t *testing.T) {
	temp, dir := t.TempDir(), t.TempDir()
	fsxtest.EachFailure(t, func() error {
		return fsx.WriteFileVia(temp, filepath.Join(dir, "doc"), []byte("new"), 0o600)
	}, func(k int, at string, err error) {
		if tree := fsxtest.Tree(t, temp); tree != ".\n" {
			t.Errorf("%s left\n%s", at, tree)
		}
	})
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if op == fsx.OpCreate && filepath.Dir(path) != temp {
			t.Errorf("a temporary in %s", path)
		}
		return nil
	})
	defer stop()
	if err := fsx.WriteFileVia(temp, filepath.Join(dir, "doc"), []byte("newer"), 0o600); err != nil ||
		content(t, filepath.Join(dir, "doc")) != "newer" {
		t.Error(err)
	}
}

// What WriteFile leaves when it is killed goes, unless somebody may be writing it; and
// nothing else goes.
func TestRemoveTemps(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	old := func(path string) {
		if err := os.Chtimes(path, now.Add(-2*time.Hour), now.Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	temp := func(pattern string) string {
		f, err := fsx.CreateTemp(dir, pattern, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		return f.Name()
	}
	young := temp(".doc.*")
	gone := []string{temp(".doc.json.*"), write(t, filepath.Join(dir, ".journal.json.jpasglxxz7"), "x")}
	for _, path := range gone {
		old(path)
	}
	for _, name := range []string{"doc.json.123", ".lock", ".doc.json", "doc", ".5"} {
		old(write(t, filepath.Join(dir, name), "x"))
	}
	if err := os.Symlink("doc", filepath.Join(dir, ".link.123")); err != nil {
		t.Fatal(err)
	}
	removed, err := fsx.RemoveTemps(dir, now.Add(-time.Hour))
	slices.Sort(removed)
	slices.Sort(gone)
	if err != nil || !slices.Equal(removed, gone) {
		t.Errorf("removed %q, not %q: %v", removed, gone, err)
	}
	const want = ".\n.5\n.doc.json\n.link.123\n.lock\ndoc\ndoc.json.123\n"
	if err := os.Remove(young); err != nil || fsxtest.Tree(t, dir) != want {
		t.Errorf("%v, left\n%s", err, fsxtest.Tree(t, dir))
	}
	if _, err := fsx.RemoveTemps(filepath.Join(dir, "none"), now); err != nil {
		t.Error(err)
	}
}

func TestDirectories(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	var top string
	fsxtest.EachFailure(t, func() error {
		top = t.TempDir()
		return fsx.MkdirAll(filepath.Join(top, "a/b/c"), 0o755)
	}, func(k int, at string, err error) {
		if !errors.Is(err, fsxtest.ErrInjected) {
			t.Errorf("%s: %v", at, err)
		}
	})
	if info, err := os.Stat(filepath.Join(top, "a/b")); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v", info, err)
	}
	file := write(t, filepath.Join(top, "file"), "")
	if err := fsx.MkdirAll(file, 0o755); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("over a file: %v", err)
	}

	fsxtest.EachFailure(t, func() error {
		top = t.TempDir()
		_, err := fsx.MkdirTemp(top, "x.*", 0o755)
		return err
	}, func(k int, at string, err error) {
		if tree := fsxtest.Tree(t, top); tree != ".\n" {
			t.Errorf("%s left\n%s", at, tree)
		}
	})
	made, err := fsx.MkdirTemp(top, "x.*", 0o755)
	if info, statErr := os.Stat(made); err != nil || statErr != nil || info.Mode() != fs.ModeDir|0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestRemoveAllOfAReadOnlyTree(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	if err := os.MkdirAll(filepath.Join(top, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(top, "a/b/file"), "x")
	for _, dir := range []string{"a/b", "a", "."} {
		if err := os.Chmod(filepath.Join(top, dir), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsx.RemoveAll(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := fsx.RemoveAll(top); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

func TestRenames(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("a"), "a")
	write(t, at("b"), "b")
	if err := fsx.RenameNoReplace(at("a"), at("b")); !errors.Is(err, fs.ErrExist) || content(t, at("b")) != "b" {
		t.Errorf("no-replace: %v", err)
	}
	write(t, at("a"), "b")
	write(t, at("b"), "a")
	if err := fsx.Rename(at("a"), at("b")); err != nil || content(t, at("b")) != "b" {
		t.Errorf("rename: %v", err)
	}
	if err := fsx.RenameNoReplace(at("b"), at("c")); err != nil || content(t, at("c")) != "b" {
		t.Errorf("no-replace to a free name: %v", err)
	}
	if err := fsx.Rename(at("none"), at("x")); !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(fmt.Sprint(err), at("none")) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestSyncDirs(t *testing.T) {
	top := t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(top, "a/b/file"), "x")
	if err := syscall.Mkfifo(filepath.Join(top, "fifo"), 0o600); err != nil {
		t.Fatal(err) // it would hang who opens it
	}
	for name, test := range map[string]struct {
		sync func(string) error
		want string
	}{
		"dirs": {fsx.SyncDirs, "fsync-dir /a/b,fsync-dir /a,fsync-dir "},
	} {
		var calls []string
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			calls = append(calls, string(op)+" "+strings.TrimPrefix(path, top))
			return nil
		})
		err := test.sync(top)
		stop()
		if got := strings.Join(calls, ","); err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		}
	}
	fsxtest.EachFailure(t, func() error { return fsx.SyncDirs(top) }, func(k int, at string, err error) {
		if !errors.Is(err, fsxtest.ErrInjected) {
			t.Errorf("%s: %v", at, err)
		}
	})
}

// The kernel is really asked: what it cannot make durable is an error. Files of /proc
// and pipes cannot be.
func TestSyncAsksTheKernel(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	none := filepath.Join(t.TempDir(), "none")
	for what, err := range map[string]error{
		"a pipe":                 fsx.Sync(w),
		"a file of /proc":        fsx.SyncFile("/proc/self/status"),
		"a directory of /proc":   fsx.SyncDir("/proc/self"),
		"no file":                fsx.SyncFile(none),
		"no directory":           fsx.SyncDir(none),
		"a tree that is missing": fsx.SyncDirs(none),
	} {
		if !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Both names of a rename are made durable, the new one first; an injected failure
// reaches the caller.
func TestRenameIsDurable(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"from", "to"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	write(t, filepath.Join(from, "a"), "x")
	for _, c := range []struct {
		old, new string
		synced   []string
	}{
		{from + "/a", to + "/a", []string{to, from}},
		{to + "/a", to + "/b", []string{to}},
	} {
		var synced []string
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			if op == fsx.OpSyncDir {
				synced = append(synced, path)
			}
			return nil
		})
		err := fsx.RenameNoReplace(c.old, c.new)
		stop()
		if err != nil || !slices.Equal(synced, c.synced) {
			t.Errorf("%s to %s: %v, synced %q", c.old, c.new, err, synced)
		}
	}
}
