package app

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What root leaves in another user's directory becomes that user's; what a link
// leads to, or has a second name elsewhere, does not. As another user there is
// nobody to hand it to: then everything stays as it is.
func TestGiveTree(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "backups")
	if err := os.MkdirAll(filepath.Join(dir, "snapshots/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "snapshots/a/file"), "")
	put(t, filepath.Join(top, "secret"), "")
	put(t, filepath.Join(top, "linked"), "")
	if err := os.Symlink("../../secret", filepath.Join(dir, "snapshots/a/symlink")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(top, "linked"), filepath.Join(dir, "hardlink")); err != nil {
		t.Fatal(err)
	}
	owner := func(name string) int {
		t.Helper()
		info, err := os.Lstat(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	me, them := os.Geteuid(), os.Geteuid()
	if me == 0 {
		them = 65534
		if err := os.Chown(dir, them, them); err != nil {
			t.Fatal(err)
		}
	}
	if err := chownTree(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"backups/snapshots": them, "backups/snapshots/a/file": them,
		"backups/snapshots/a/symlink": them, "secret": me, "linked": me} {
		if got := owner(name); got != want {
			t.Errorf("%s belongs to %d, want %d", name, got, want)
		}
	}
	if err := chownTree(filepath.Join(top, "missing")); err != nil {
		t.Error(err)
	}
}
