package app

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// The document of backup: AtoCore's own keys and ours, and the run behind it.
func TestBackup(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	taken, err := a.BackupWithNote(t.Context(), snapshot.Manual, false, "before the upgrade")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(taken)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"backup_root": h.path("backups/snapshots/" + string(taken.Stamp)), "path": taken.Path, "kind": "manual",
		"full": false, "stamp": string(taken.Stamp), "created_by": "atobackupd test", "include_chroma": false,
		"registry_snapshot_path": "",
	} {
		if doc[key] != want {
			t.Errorf("%s: %v, want %v", key, doc[key], want)
		}
	}
	for _, key := range []string{"created_at", "db_snapshot_path", "db_size_bytes", "bytes", "validation",
		"duration_ms"} {
		if _, ok := doc[key]; !ok {
			t.Errorf("%s is missing in %s", key, data)
		}
	}
	s, err := a.store.Get(taken.Stamp)
	if err != nil || s.Manifest.Note != "before the upgrade" || s.Manifest.Host != "dalidou" {
		t.Errorf("%+v, %v", s.Manifest, err)
	}
	run, found, err := a.history.LastRun(t.Context(), "backup")
	if err != nil || !found || run.Outcome != history.OK || run.Stamp != string(taken.Stamp) || run.Kind != "manual" ||
		run.Bytes != taken.Bytes {
		t.Errorf("%+v, %v", run, err)
	}
}

// What keeps a take from being made leaves nothing behind, is recorded as a run that
// failed, and says why.
func TestBackupFails(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(h *house, a *App)
		now  bool
		kind failure.Kind
		text string
	}{
		{"no database", func(h *house, a *App) { h.remove("data/a.db") }, false, -1, "a.db"},
		{"a database that is none", func(h *house, a *App) { h.write("data/a.db", "no database") }, false, -1, "a.db"},
		{"a table that AtoCore needs", func(_ *house, a *App) {
			a.Config.AtoCore.RequiredTables = []string{"memories"}
		}, false, -1, "memories"},
		{"no space", func(_ *house, a *App) { a.Config.Backup.MinFree = 1 << 60 }, false, failure.NoSpace, ""},
		{"a registry that is no JSON", func(h *house, a *App) {
			h.write("registry.json", "{")
			a.Config.AtoCore.RegistryPath = h.path("registry.json")
		}, false, -1, "registry"},
		{"another one works", func(h *house, a *App) {
			lock, err := a.LockNow(h.t.Context(), "a prune")
			if err != nil {
				h.t.Fatal(err)
			}
			h.t.Cleanup(func() { lock.Unlock() })
		}, true, failure.Locked, "a prune"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "")
			a := h.open()
			defer a.Close()
			test.harm(h, a)
			take := func() (Taken, error) {
				if test.now {
					return a.BackupNow(t.Context(), snapshot.Manual, false)
				}
				return a.Backup(t.Context(), snapshot.Manual, false, time.Time{})
			}
			_, err := take()
			if err == nil || !strings.Contains(err.Error(), test.text) ||
				test.kind >= 0 && failure.KindOf(err) != test.kind {
				t.Errorf("%v (kind %d)", err, failure.KindOf(err))
			}
			for _, dir := range []string{"snapshots", "staging"} {
				if left := fsxtest.Tree(t, h.path("backups/"+dir)); left != ".\n" {
					t.Errorf("left in %s: %s", dir, left)
				}
			}
			run, found, runErr := a.history.LastRun(t.Context(), "backup")
			if runErr != nil || !found || run.Outcome != history.Failed || run.Error != err.Error() {
				t.Errorf("%+v, %v", run, runErr)
			}
		})
	}
}

// Two takes within a second have stamps of their own.
func TestBackupTwice(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	one, two := h.backup(a), h.backup(a)
	if one.Stamp >= two.Stamp {
		t.Errorf("%s, %s", one.Stamp, two.Stamp)
	}
	for _, taken := range []Taken{one, two} {
		if result, err := a.Validate(t.Context(), taken.Stamp); err != nil || !result.Valid {
			t.Errorf("%+v, %v", result, err)
		}
		for _, sidecar := range []string{"-wal", "-shm"} {
			if _, err := os.Lstat(taken.Path + "/" + snapshot.DBFile + sidecar); err == nil {
				t.Errorf("%s has %s", taken.Stamp, sidecar)
			}
		}
	}
}
