package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// As root, what somebody else could change is refused before anything is made,
// with what mends it; readers go on, and the operator may say that it is well.
func TestSharedBackupDirIsRefused(t *testing.T) {
	const stranger = 61234
	for _, c := range []struct {
		name string
		make func(dir string) error
		bad  string // what is named, from the backup directory
	}{
		{"its owner", func(dir string) error { return os.Chown(dir, stranger, 0) }, "."},
		{"everybody", func(dir string) error { return os.Chmod(dir, 0o777) }, "."},
		{"the directory above", func(dir string) error { return os.Chown(filepath.Dir(dir), stranger, 0) }, ".."},
		{"snapshots", func(dir string) error { return os.Chmod(filepath.Join(dir, "snapshots"), 0o777) }, "snapshots"},
		{"staging is a link", func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "staging")),
				os.Symlink("/tmp", filepath.Join(dir, "staging")),
				os.Lchown(filepath.Join(dir, "staging"), stranger, 0))
		}, "staging"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, "")
			a := h.open()
			a.Close()
			dir := a.Config.Backup.Dir
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), a.Config, Options{})
			bad := filepath.Join(dir, c.bad)
			if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), bad+" ") {
				t.Fatalf("%v: does not name %s", err, bad)
			}
			if !strings.Contains(err.Error(), "--trust-backup-dir") || !strings.Contains(err.Error(), "mend it: ch") {
				t.Errorf("%v: says no way out", err)
			}
			reader, err := Open(t.Context(), a.Config, Options{ReadOnly: true})
			if err != nil {
				t.Fatalf("a reader: %v", err)
			}
			reader.Close()
		})
	}
}

func TestTrustBackupDirGoesOn(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	a.Close()
	if err := os.Chmod(a.Config.Backup.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), a.Config, Options{TrustBackupDir: true})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

// The state directory is tightened, not refused: what lies there decides.
func TestStateDirIsTightened(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	a.Close()
	if err := os.Chmod(a.Config.StateDir, 0o777); err != nil {
		t.Fatal(err)
	}
	h.open().Close()
	if info, err := os.Stat(a.Config.StateDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A live path that the application made a link of is not followed: what lies
// behind it would be in the snapshot.
func TestTakeFollowsNoLinkOfTheApplication(t *testing.T) {
	const stranger = 61234
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	live := filepath.Dir(a.Config.AtoCore.DBPath)
	err := errors.Join(os.Rename(live, live+".aside"), os.Symlink(live+".aside", live),
		os.Lchown(live, stranger, stranger))
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Backup(t.Context(), snapshot.Manual, false, time.Time{})
	if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("got %v", err)
	}
}
