package app

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// A snapshot that AtoCore's own user has added is copied once, counts as the copy
// alone, and is neither deleted nor marked.
func TestForeignSnapshotsAreAdoptedOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		return // a foreign directory takes another user
	}
	h := newHouse(t, "")
	a := h.open()
	now := time.Now()
	theirs := h.madeByAtoCore(now.Add(-time.Hour), false)
	bad := h.madeByAtoCore(now.Add(-2*time.Hour), true)
	for _, stamp := range []snapshot.Stamp{theirs, bad} {
		err := filepath.WalkDir(a.store.Path(stamp), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = os.Lchown(path, 61234, 61234)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := a.Prune(t.Context(), now, false, true); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := a.Prune(t.Context(), now, true, false)
	if err != nil || len(plan.Keep) != 3 || plan.Keep[0].Stamp != string(bad) ||
		!strings.Contains(plan.Keep[0].Reasons[0], "AtoCore's own") {
		t.Errorf("not every snapshot has a verdict: %+v, %v", plan.Keep, err)
	}
	list, _, err := a.Snapshots(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, s := range list {
		word := string(s.Kind)
		if s.Foreign {
			word = "foreign"
		}
		if s.Counts(now) {
			word += " counts"
		}
		seen = append(seen, word)
	}
	if got := strings.Join(seen, ", "); got != "foreign, foreign, adopted counts" {
		t.Errorf("listed: %s", got)
	}
	if latest, err := a.Find(t.Context(), "latest", now); err != nil || latest.Foreign {
		t.Errorf("latest is %+v, %v", latest, err)
	}
	if err := a.Pin(t.Context(), theirs, true); err != nil {
		t.Fatal(err)
	}
	known, err := a.origins()
	if err != nil || len(known) != 1 {
		t.Errorf("%v, %v", known, err)
	}
	pinned, err := a.Find(t.Context(), string(known[theirs]), now)
	if err != nil || !pinned.Pinned {
		t.Errorf("%+v, %v", pinned, err)
	}
}

// A list of what was adopted that cannot be read is named, with the way out.
func TestDamagedOrigins(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for name, make := range map[string]func(path string) error{
		"empty":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"garbage":   func(path string) error { return os.WriteFile(path, []byte("{x"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("elsewhere", path) },
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		if err := os.RemoveAll(a.originsFile()); err != nil {
			t.Fatal(err)
		}
		if err := make(a.originsFile()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.origins(); err == nil || !strings.Contains(err.Error(), a.originsFile()) || failure.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
