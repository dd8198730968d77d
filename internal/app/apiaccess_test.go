package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/forktest"
)

// What AtoCore makes belongs to AtoCore's user. It must be readable all the way
// down, or it could not be copied into one of ours.
func TestProveAPI(t *testing.T) {
	const app, ours = 1000, 65534
	if os.Geteuid() != 0 {
		if err := ProveAPI(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not proven") {
			t.Errorf("nothing to try it on: %v", err)
		}
		return
	}
	dir := t.TempDir()
	for up := dir; up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	prove := func() (string, error) {
		cmd := forktest.As(ours, forktest.Command("prove the API", dir))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := prove(); err == nil || !strings.Contains(out, "not proven") {
		t.Errorf("nothing to try it on: %v, %s", err, out)
	}
	made := filepath.Join(dir, "snapshots/20260407T060000Z")
	inner := filepath.Join(made, "chroma/segment")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	mode := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chown(path, app, app); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{made, filepath.Dir(inner), inner} {
		mode(path, 0o755)
	}
	if out, err := prove(); err != nil {
		t.Errorf("all of it can be read: %v, %s", err, out)
	}
	for _, path := range []string{made, inner} {
		mode(path, 0o750)
		if out, err := prove(); err == nil || !strings.Contains(out, path) {
			t.Errorf("%s cannot be read: %v, %s", path, err, out)
		}
		mode(path, 0o755)
	}
}
