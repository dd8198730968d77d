package fsx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The way for file systems without RENAME_NOREPLACE.
func TestRenameClaimed(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, path := range []string{"file", "file2"} {
		if err := os.WriteFile(at(path), []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"dir/child", "dir2", "full/child"} {
		if err := os.MkdirAll(at(path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]string{
		{"file", "file2"},
		{"file", "dir2"},
		{"dir", "file2"},
		{"dir", "dir2"},
		{"dir", "full"},
	} {
		if err := renameClaimed(at(pair[0]), at(pair[1])); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s over %s: %v", pair[0], pair[1], err)
		}
	}
	if err := renameClaimed(at("file"), at("new")); err != nil {
		t.Error(err)
	}
	if err := renameClaimed(at("dir"), at("newdir")); err != nil {
		t.Error(err)
	}
	if err := renameClaimed(at("dir2"), at("newdir2")); err != nil { // an empty one is not taken for the claim
		t.Error(err)
	}
	for path, want := range map[string]bool{
		"file":         false,
		"new":          true,
		"dir":          false,
		"newdir/child": true,
		"dir2":         false,
		"newdir2":      true,
		"full/child":   true,
	} {
		if _, err := os.Lstat(at(path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	// What cannot be moved leaves no claim behind.
	if err := renameClaimed(at("newdir2"), at("newdir2/inside")); err == nil {
		t.Error("a directory was moved into itself")
	}
	if _, err := os.Lstat(at("newdir2/inside")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the claim is left: %v", err)
	}
	if err := renameClaimed(at("none"), at("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
