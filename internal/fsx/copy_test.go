package fsx_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	for name, data := range map[string][]byte{"empty": nil, "small": []byte("x"), "big": big} {
		src := write(t, filepath.Join(dir, name), string(data))
		for _, share := range []bool{true, false} {
			dst := filepath.Join(t.TempDir(), "copy")
			method, err := fsx.CopyFile(context.Background(), dst, src, 0o444, share)
			if err != nil {
				t.Fatal(err)
			}
			if !share && method != fsx.ReadWrite {
				t.Errorf("%s: %s may share blocks", name, method)
			}
			if content(t, dst) != string(data) {
				t.Errorf("%s by %s differs", name, method)
			}
			if info, err := os.Stat(dst); err != nil || info.Mode() != 0o444 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			if _, err := fsx.CopyFile(context.Background(), dst, src, 0o444, share); !errors.Is(err, os.ErrExist) ||
				content(t, dst) != string(data) {
				t.Errorf("over a file: %v", err)
			}
		}
	}
}

// Holes stay holes, at the beginning, inside and at the end: a file of 6 GiB that
// takes no block costs none.
func TestCopyKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	f, err := os.Create(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{3 << 20, 1 << 30, 2<<30 + 4096} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 5000), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(6 << 30); err != nil {
		t.Fatal(err)
	}
	for _, share := range []bool{true, false} {
		dst := filepath.Join(t.TempDir(), "copy")
		if _, err := fsx.CopyFile(context.Background(), dst, src, 0o600, share); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dst)
		if err != nil || info.Size() != 6<<30 || info.Sys().(*syscall.Stat_t).Blocks*512 > 1<<20 {
			t.Errorf("share %v: %+v, %v", share, info, err)
		}
		copied, err := os.Open(dst)
		if err != nil {
			t.Fatal(err)
		}
		defer copied.Close()
		for _, at := range []int64{0, 3<<20 - 100, 1<<30 - 100, 2<<30 + 4000, 6<<30 - 100} {
			a, b := make([]byte, 6000), make([]byte, 6000)
			n, _ := f.ReadAt(a, at)
			m, _ := copied.ReadAt(b, at)
			if n != m || !bytes.Equal(a, b) {
				t.Errorf("share %v: differs at %d", share, at)
			}
		}
	}
}

// Files that only read(2) can read have no size.
func TestCopyFileFromProc(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "copy")
	if method, err := fsx.CopyFile(context.Background(), dst, "/proc/self/status", 0o600, true); err != nil ||
		len(content(t, dst)) < 100 {
		t.Errorf("%s, %v", method, err)
	}
}

func TestCopyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo, link, dst := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "dst")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink("fifo", link)); err != nil {
		t.Fatal(err)
	}
	before := fsxtest.Tree(t, dir)
	for _, src := range []string{fifo, link, dir, filepath.Join(dir, "none")} {
		if _, err := fsx.CopyFile(context.Background(), dst, src, 0o600, true); err == nil {
			t.Errorf("copied %s", src)
		}
	}
	if after := fsxtest.Tree(t, dir); after != before {
		t.Errorf("left\n%s", after)
	}
}

func TestCopyFileFailing(t *testing.T) {
	src := write(t, filepath.Join(t.TempDir(), "src"), "text")
	var dir string
	fsxtest.EachFailure(t, func() error {
		dir = t.TempDir()
		_, err := fsx.CopyFile(context.Background(), filepath.Join(dir, "dst"), src, 0o600, true)
		return err
	}, func(k int, at string, err error) {
		if tree := fsxtest.Tree(t, dir); tree != ".\n" || !errors.Is(err, fsxtest.ErrInjected) {
			t.Errorf("%s: %v, left\n%s", at, err, tree)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, share := range []bool{true, false} {
		dst := filepath.Join(t.TempDir(), "dst")
		if _, err := fsx.CopyFile(ctx, dst, src, 0o600, share); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if _, err := os.Lstat(dst); !errors.Is(err, os.ErrNotExist) {
			t.Error("a cancelled copy stays")
		}
	}
}

func TestSpaceAndMounts(t *testing.T) {
	dir := t.TempDir()
	free, err := fsx.Free(dir)
	if err != nil || free <= 0 {
		t.Fatalf("%d, %v", free, err)
	}
	if err := fsx.RequireFree(dir, 1, 1); err != nil {
		t.Error(err)
	}
	err = fsx.RequireFree(dir, 1, 1<<60)
	if failure.KindOf(err) != failure.NoSpace {
		t.Errorf("got %v", err)
	}
	here, err1 := fsx.MountID(dir)
	proc, err2 := fsx.MountID("/proc/self")
	if err1 != nil || err2 != nil || here == proc {
		t.Errorf("mounts %d and %d, %v, %v", here, proc, err1, err2)
	}
	hereDevice, err1 := fsx.Device(dir)
	procDevice, err2 := fsx.Device("/proc/self")
	if err1 != nil || err2 != nil || hereDevice == procDevice {
		t.Errorf("devices %d and %d, %v, %v", hereDevice, procDevice, err1, err2)
	}
	for name, ask := range map[string]func(string) error{
		"free":   func(p string) error { _, err := fsx.Free(p); return err },
		"mount":  func(p string) error { _, err := fsx.MountID(p); return err },
		"device": func(p string) error { _, err := fsx.Device(p); return err },
	} {
		if err := ask(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}
