package app

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/snapshot"
)

// madeByAtoCore lays out a snapshot as AtoCore's own tools do; a broken one has a
// database that is none.
func (h *house) madeByAtoCore(at time.Time, broken bool) snapshot.Stamp {
	h.t.Helper()
	stamp := snapshot.StampOf(at)
	dir := h.path("backups/snapshots/" + string(stamp))
	if err := os.MkdirAll(filepath.Join(dir, "db"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	stored := filepath.Join(dir, "db/a.db")
	if broken {
		if err := os.WriteFile(stored, []byte("no database"), 0o644); err != nil {
			h.t.Fatal(err)
		}
	} else {
		db, err := sql.Open("sqlite", stored)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, err := db.Exec("CREATE TABLE t (x); INSERT INTO t VALUES (1)"); err != nil {
			h.t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	text := fmt.Sprintf(`{"backup_root": "/data/snapshots/%[1]s", "db_snapshot_path": `+
		`"/data/snapshots/%[1]s/db/a.db", "registry_snapshot_path": ""}`, stamp)
	if err := os.WriteFile(filepath.Join(dir, snapshot.MetadataFile), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return stamp
}

// Where AtoCore took snapshots for months, the first prune validates them all,
// adopts the good ones, counts no other, and holds the big deletion that follows
// until a person has looked.
func TestFirstPruneOverWhatAtoCoreMade(t *testing.T) {
	h := newHouse(t, "")
	now := time.Date(2026, 4, 30, 12, 0, 0, 0, time.UTC)
	var good, broken []snapshot.Stamp
	for day := range 40 {
		at := now.AddDate(0, 0, -day).Add(-6 * time.Hour)
		if day == 0 || day == 20 { // the newest of all is one that is no good
			broken = append(broken, h.madeByAtoCore(at, true))
			continue
		}
		good = append(good, h.madeByAtoCore(at, false))
	}
	a := h.open()
	defer a.Close()
	before := fsxtest.State(t, h.path("backups/snapshots"))
	dry, err := a.Prune(t.Context(), now, true, false)
	if err != nil || !dry.Held || len(dry.Deleted) != 0 || dry.Frees <= 0 {
		t.Fatalf("dry run: held %v, %v, frees %d", dry.Held, err, dry.Frees)
	}
	if fsxtest.State(t, h.path("backups/snapshots")) != before {
		t.Error("the dry run wrote something")
	}
	held, err := a.Prune(t.Context(), now, false, false)
	if err == nil || !strings.Contains(err.Error(), "held") || len(held.Deleted) != 0 {
		t.Fatalf("not held: %v, %v", held.Deleted, err)
	}
	for _, stamp := range good {
		if s, err := a.store.Get(stamp); err != nil || s.Manifest == nil || s.Kind != snapshot.Adopted || !s.IsValid() {
			t.Fatalf("%s was not adopted: %+v, %v", stamp, s, err)
		}
	}
	for _, v := range held.Keep {
		if slices.Contains(broken, snapshot.Stamp(v.Stamp)) {
			for _, reason := range v.Reasons {
				if strings.HasPrefix(reason, "daily") || strings.HasPrefix(reason, "weekly") ||
					strings.HasPrefix(reason, "newest") {
					t.Errorf("a broken one counts: %+v", v)
				}
			}
		}
	}
	if !slices.ContainsFunc(held.Keep, func(v PruneVerdict) bool { return v.Stamp == string(good[0]) }) {
		t.Error("the newest good one is not kept")
	}
	done, err := a.Prune(t.Context(), now, false, true)
	if err != nil || len(done.Deleted) != len(held.Delete) || len(done.Deleted) < 20 {
		t.Fatalf("deleted %d of %d, %v", len(done.Deleted), len(held.Delete), err)
	}
	again, err := a.Prune(t.Context(), now, false, false)
	if err != nil || len(again.Delete) != 0 {
		t.Errorf("a second prune deletes %v, %v", again.Delete, err)
	}
}

var pruneNoon = time.Date(2026, 4, 30, 12, 0, 0, 0, time.UTC)

// Killed at each of its steps, a prune leaves only whole snapshots, all that it
// was to keep, and nothing that the next one does not finish.
func TestPruneKilled(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	for day := range 10 {
		h.madeByAtoCore(pruneNoon.AddDate(0, 0, -day).Add(-6*time.Hour), false)
	}
	broken := h.madeByAtoCore(pruneNoon.AddDate(0, 0, -11), true)
	plan, err := a.Prune(t.Context(), pruneNoon, true, false)
	if err != nil || len(plan.Delete) == 0 {
		t.Fatalf("%+v, %v", plan.Delete, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	h.move("backups", "backups.before")
	kills := 0
	for k := 1; ; k++ {
		if out, err := exec.Command("cp", "-a", h.path("backups.before"),
			h.path("backups")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cmd := forktest.Command("prune", h.dir, fsxtest.KillEnv(k))
		out, err := cmd.CombinedOutput()
		killed := cmd.ProcessState.ExitCode() == -1
		if err != nil && !killed {
			t.Fatalf("kill %d: %v: %s", k, err, out)
		}
		a := h.open()
		list, warnings, err := a.store.List(pruneNoon)
		if err != nil || len(warnings) != 0 {
			t.Fatalf("kill %d: %v, %q", k, err, warnings)
		}
		for _, v := range plan.Keep {
			if !slices.ContainsFunc(list, func(s snapshot.Snapshot) bool { return string(s.Stamp) == v.Stamp }) {
				t.Fatalf("kill %d: %s is gone, which was to be kept: %v", k, v.Stamp, v.Reasons)
			}
		}
		for _, s := range list {
			if r, err := a.Validate(t.Context(), s.Stamp); err != nil || r.Valid != (s.Stamp != broken) {
				t.Fatalf("kill %d: %s: %v, %v", k, s.Stamp, r.Errors, err)
			}
		}
		if done, err := a.Prune(t.Context(), pruneNoon, false, true); err != nil || len(done.Keep) != len(plan.Keep) {
			t.Fatalf("kill %d: the next prune: %+v, %v", k, done, err)
		}
		if left := fsxtest.Tree(t, h.path("backups/staging")); left != ".\n" {
			t.Fatalf("kill %d: left in staging: %s", k, left)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		// It is as it was before.
		for _, name := range []string{"backups", "state/published.json", "state/published.kept"} {
			if err := os.RemoveAll(h.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		if !killed {
			break
		}
		kills++
	}
	provetest.Points(t, kills)
	if kills < 15 {
		t.Errorf("killed at %d steps only", kills)
	}
}

// What failed its validation is looked at for some days and then removed, also
// while the prune itself is held.
func TestQuarantineIsSwept(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for day := range 40 {
		h.madeByAtoCore(pruneNoon.AddDate(0, 0, -day).Add(-6*time.Hour), false)
	}
	for _, stamp := range []string{"20260420T060000Z", "20260429T060000Z"} {
		if err := os.MkdirAll(h.path("backups/quarantine/"+stamp), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Prune(t.Context(), pruneNoon, false, false); failure.KindOf(err) != failure.Other {
		t.Fatalf("not held: %v", err)
	}
	if left := fsxtest.Tree(t, h.path("backups/quarantine")); left != ".\n20260429T060000Z\n" {
		t.Errorf("left: %s", left)
	}
}

// One snapshot that cannot be deleted is named, and keeps none of the others.
func TestPruneGoesOnPastOneThatStays(t *testing.T) {
	h := newHouse(t, "\n[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nkeep_within = \"0\"\n")
	a := h.open()
	defer a.Close()
	for day := range 6 {
		h.madeByAtoCore(pruneNoon.AddDate(0, 0, -day).Add(-6*time.Hour), false)
	}
	stuck := string(snapshot.StampOf(pruneNoon.AddDate(0, 0, -3).Add(-6 * time.Hour)))
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if op == fsx.OpRename && strings.Contains(path, stuck+".prune") {
			return syscall.EPERM
		}
		return nil
	})
	doc, err := a.Prune(t.Context(), pruneNoon, false, true)
	stop()
	if err == nil || !strings.Contains(err.Error(), stuck) || failure.KindOf(err) != failure.Other {
		t.Errorf("the error does not name %s: %v", stuck, err)
	}
	if len(doc.Deleted) != 4 || slices.Contains(doc.Deleted, stuck) || len(doc.Delete) != 5 {
		t.Errorf("deleted %v of %v", doc.Deleted, doc.Delete)
	}
	if doc, err = a.Prune(t.Context(), pruneNoon, false, true); err != nil ||
		!slices.Equal(doc.Deleted, []string{stuck}) {
		t.Errorf("afterwards: deleted %v, %v", doc.Deleted, err)
	}
}
