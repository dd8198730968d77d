package app

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// chromaFor puts into a house a Chroma directory that a real Chroma wrote.
func (h *house) chromaFor(a *App) {
	h.t.Helper()
	if out, err := exec.Command("tar", "-xzf", "../../snapshot/chroma/testdata/whole.tar.gz", "-C",
		h.path("data")).CombinedOutput(); err != nil {
		h.t.Fatalf("tar: %v: %s", err, out)
	}
	a.Config.AtoCore.ChromaPath = h.path("data/whole")
}

// api pretends to be AtoCore: it makes a snapshot of the house in the way that
// AtoCore does and answers with its container's path.
func (h *house) api(stamp string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		dir := h.path("backups/snapshots/" + stamp)
		for _, copied := range [][2]string{{"data/a.db", "db/a.db"}, {"data/whole", "chroma"}} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, copied[1])), 0o755); err != nil {
				h.t.Error(err)
			}
			if out, err := exec.Command("cp", "-a", h.path(copied[0]),
				filepath.Join(dir, copied[1])).CombinedOutput(); err != nil {
				h.t.Errorf("%v: %s", err, out)
			}
		}
		answer := fmt.Sprintf(`{"backup_root": "/data/backups/snapshots/%[1]s",
			"db_snapshot_path": "/data/backups/snapshots/%[1]s/db/a.db",
			"registry_snapshot_path": "", "chroma_snapshot_included": true}`, stamp)
		if err := os.WriteFile(filepath.Join(dir, "backup-metadata.json"), []byte(answer), 0o644); err != nil {
			h.t.Error(err)
		}
		fmt.Fprint(w, answer)
	}
}

func TestBackupByAPI(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	h.chromaFor(a)
	answer := h.api("20260407T060000Z")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer server.Close()
	a.Config.Backup.ChromaMethod, a.Config.AtoCore.APIURL = "api", server.URL+"/"

	taken, err := a.Backup(t.Context(), snapshot.Weekly, true, time.Time{})
	if err != nil || taken.Stamp != "20260407T060000Z" || taken.Kind != snapshot.Weekly || !taken.Full ||
		!taken.Validation.Valid {
		t.Fatalf("%+v, %v", taken, err)
	}
	if run, _, err := a.history.LastRun(t.Context(), "backup"); err != nil || run.Stamp != "20260407T060000Z" ||
		run.Kind != "weekly" {
		t.Errorf("recorded: %+v, %v", run, err)
	}
	// Without Chroma AtoCore is not asked.
	answer = func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }
	if taken, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err != nil || taken.Full {
		t.Errorf("%+v, %v", taken, err)
	}
	// What it refuses is for a person to look at: nothing falls back.
	answer = func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "ingestion is under way", http.StatusConflict)
	}
	if _, err := a.Backup(t.Context(), snapshot.Weekly, true, time.Time{}); err == nil ||
		!strings.Contains(err.Error(), "AtoCore refused: 409 Conflict: ingestion is under way") {
		t.Errorf("refused: %v", err)
	}
	// When it is down, the snapshot is taken all the same.
	server.Close()
	taken, err = a.Backup(t.Context(), snapshot.Weekly, true, time.Time{})
	if err != nil || !taken.Full || !taken.Validation.Valid || taken.CreatedBy == nil {
		t.Fatalf("%+v, %v", taken, err)
	}
	if snap, err := a.store.Get(taken.Stamp); err != nil ||
		!strings.HasPrefix(snap.Manifest.Artifacts[snapshot.Chroma].Method, "live") {
		t.Errorf("%+v, %v", snap.Manifest, err)
	}
}

func TestAskAtoCore(t *testing.T) {
	answer := ""
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/admin/backup" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	for _, c := range []struct {
		status int
		answer string
		stamp  snapshot.Stamp
		down   bool
	}{
		{200, `{"backup_root": "/data/backups/snapshots/20260407T060000Z"}`, "20260407T060000Z", false},
		{200, `{"backup_root": "/data/backups/snapshots/20260407T060000Z/"}`, "20260407T060000Z", false},
		{200, `{"backup_root": "/data/backups/../../etc"}`, "", false},
		{200, `{"backup_root": ""}`, "", false},
		{200, `<html>`, "", false},
		{302, ``, "", false},
		{500, `{"detail": "no space"}`, "", false},
		{502, ``, "", true},
		{503, ``, "", true},
		{504, ``, "", true},
	} {
		status, answer = c.status, c.answer
		stamp, err := askAtoCore(t.Context(), server.URL)
		if stamp != c.stamp || (err == nil) != (c.stamp != "") || isDown(err) != c.down {
			t.Errorf("%d %s: %q, %v", c.status, c.answer, stamp, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := askAtoCore(ctx, server.URL); failure.KindOf(err) != failure.Interrupted || isDown(err) {
		t.Errorf("cancelled: %v", err)
	}
}

func isDown(err error) bool { return err != nil && strings.Contains(err.Error(), errAPIDown.Error()) }
