package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
)

// open returns a Remote on root that publishes by the given ways only.
func open(t *testing.T, root string, ways ...publisher) *Remote {
	t.Helper()
	r, err := Open(root, tree.Trusted(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if ways != nil {
		r.publish = ways
	}
	return r
}

func TestContract(t *testing.T) {
	remotetest.Run(t, func(t *testing.T, root string) offsite.Remote { return open(t, root) }, remotetest.Options{})
}

// Every way of publishing keeps the contract by itself: which of them a disk
// takes is not in our hands.
func TestContractOfEachPublisher(t *testing.T) {
	for name, way := range map[string]publisher{"rename": renameNoReplace, "lock": lockedRename} {
		t.Run(name, func(t *testing.T) {
			remotetest.Run(
				t, func(t *testing.T, root string) offsite.Remote { return open(t, root, way) },
				remotetest.Options{},
			)
		})
	}
}

func TestPublishFallsBack(t *testing.T) {
	lacks := func(errno error) publisher {
		return func(*tree.Dir, string, *tree.Dir, string) error { return unsupported(errno) }
	}
	r := open(t, t.TempDir(), lacks(syscall.EINVAL), lacks(syscall.EPERM), lockedRename)
	if _, err := r.Put(context.Background(), "packs/one", strings.NewReader("data")); err != nil {
		t.Error(err)
	}
	r.publish = []publisher{lacks(syscall.EINVAL), lacks(syscall.EOPNOTSUPP)}
	_, err := r.Put(context.Background(), "packs/two", strings.NewReader("data"))
	if !errors.Is(err, errUnsupported) {
		t.Errorf("a file system that can do nothing: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(r.path, offsite.IncomingDir)); err != nil || len(left) != 0 {
		t.Errorf("incoming holds %v, %v", left, err)
	}
}

func TestMissingRootIsNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not mounted", "vault")
	_, err := Open(path, tree.Trusted(""))
	if failure.KindOf(err) != failure.NotFound || !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), "mount its disk") {
		t.Errorf("Open of a missing directory: %v", err)
	}
	if _, err := os.Lstat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open made something")
	}
	for range 2 { // Create is for one that exists, too.
		r, err := Create(path, tree.Trusted(""))
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != dirMode {
		t.Errorf("Create made %v, %v", info, err)
	}
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, try := range []func(string, tree.Owners) (*Remote, error){Open, Create} {
		if _, err := try(file, tree.Trusted("")); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("a file as root: %v", err)
		}
	}
}

func TestModes(t *testing.T) {
	r := open(t, t.TempDir())
	if _, err := r.Put(context.Background(), "packs/one", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"packs/one": fileMode, "packs": dirMode, offsite.IncomingDir: dirMode,
	} {
		info, err := os.Stat(filepath.Join(r.path, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %o", name, info.Mode(), err, want)
		}
	}
}

// A FIFO in the vault must not hold the reader forever.
func TestOpenRefusesFIFO(t *testing.T) {
	r := open(t, t.TempDir())
	if err := syscall.Mkfifo(filepath.Join(r.path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(context.Background(), "fifo"); err == nil ||
		!strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Open of a FIFO: %v", err)
	}
}

func TestReadingStopsWithTheContext(t *testing.T) {
	r := open(t, t.TempDir())
	if _, err := r.Put(context.Background(), "one", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f, err := r.Open(ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cancel()
	if _, err := io.Copy(io.Discard, f); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the context ended: %v", err)
	}
}

// A disk that is really full: the Put fails as NoSpace, leaves nothing behind
// and costs no other object anything.
func TestFullDisk(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mounting a small tmpfs, which needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(root, syscall.MNT_DETACH) })
	r := open(t, root)
	ctx := context.Background()
	if _, err := r.Put(ctx, "packs/small", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	_, err := r.Put(ctx, "packs/big", io.LimitReader(zeros{}, 2<<20))
	if failure.KindOf(err) != failure.NoSpace || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Put on a full disk: %v (kind %d)", err, failure.KindOf(err))
	}
	for dir, want := range map[string]int{"packs": 1, offsite.IncomingDir: 0} {
		if entries, err := r.List(ctx, dir); err != nil || len(entries) != want {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
	if free, err := r.Free(ctx); err != nil || free < 512<<10 {
		t.Errorf("the failed Put kept its space: %d bytes free, %v", free, err)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestReadOnlyDisk(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Fatalf("mounting a read-only tmpfs, which needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(root, syscall.MNT_DETACH) })
	_, err := open(t, root).Put(context.Background(), "one", strings.NewReader("data"))
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount the file system read-write") {
		t.Errorf("Put on a read-only disk: %v", err)
	}
}

func TestErrorsAreForOperators(t *testing.T) {
	for _, c := range []struct {
		errno error
		kind  failure.Kind
		says  string
	}{
		{syscall.ENOSPC, failure.NoSpace, "store: /v/x: no space left on device: free some space"},
		{syscall.EDQUOT, failure.NoSpace, "raise the quota"},
		{syscall.EACCES, failure.Other, "store: /v/x: permission denied: give this user"},
		{syscall.EROFS, failure.Other, "read-only file system: mount the file system read-write"},
		{syscall.ENOENT, failure.NotFound, "no such file"},
	} {
		err := explain("store", "/v/x", &fs.PathError{Op: "openat", Path: "x", Err: c.errno}, "")
		if failure.KindOf(err) != c.kind || !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: kind %d, %q", c.errno, failure.KindOf(err), err)
		}
	}
}
