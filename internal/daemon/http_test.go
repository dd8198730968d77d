package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
)

// startServing starts the daemon with its HTTP server and returns the address.
func startServing(t *testing.T) (h *house, address string) {
	h = newHouse(t, "")
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := probe.Addr().String()
	probe.Close()
	text, err := os.ReadFile(h.path("config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("config.toml", strings.Replace(string(text), `listen = ""`, fmt.Sprintf("listen = %q", listen), 1))
	h.start(nil)
	t.Cleanup(func() { h.stop() })
	address = "http://" + listen
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r, err := http.Get(address + "/healthz"); err == nil {
			r.Body.Close()
			return h, address
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// ask makes a request and decodes a JSON answer into document, unless that is
// nil. It returns the body.
func ask(t *testing.T, method, url, body string, wantStatus int, document any) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != wantStatus {
		t.Fatalf("%s %s: status %d, %v: %s", method, url, answer.StatusCode, err, data)
	}
	if document != nil {
		if err := json.Unmarshal(data, document); err != nil {
			t.Fatalf("%s %s: %v: %s", method, url, err, data)
		}
	}
	return string(data)
}

// TestHTTPServesTheInstallation takes, lists, validates and shows a snapshot of
// a real database through a running daemon.
func TestHTTPServesTheInstallation(t *testing.T) {
	h, address := startServing(t)
	if page := ask(t, "GET", address+"/", "", 200, nil); !strings.Contains(page,
		"There is nothing to restore to yet.") {
		t.Errorf("the first page: %s", page)
	}
	var refused struct{ Error string }
	ask(t, "POST", address+"/admin/backup", `{"include_chroma": true}`, 400, &refused)
	if !strings.Contains(refused.Error, "chroma_path") {
		t.Errorf("Chroma where there is none: %q", refused.Error)
	}
	var taken struct {
		BackupRoot string `json:"backup_root"`
		Stamp      string `json:"stamp"`
	}
	ask(t, "POST", address+"/admin/backup", "{}", 200, &taken)
	if filepath.Base(taken.BackupRoot) != taken.Stamp || filepath.Dir(taken.BackupRoot) != h.path("backups/snapshots") {
		t.Fatalf("taken: %+v", taken)
	}
	for _, line := range []string{"msg=started job=backup by=http", "msg=done job=backup stamp=" + taken.Stamp} {
		if !strings.Contains(h.log.String(), line) {
			t.Errorf("the log lacks %q:\n%s", line, h.log.String())
		}
	}
	var list struct {
		BackupDir string `json:"backup_dir"`
		Backups   []struct {
			Stamp       string
			Exists      bool
			HasMetadata bool `json:"has_metadata"`
			Metadata    struct {
				BackupRoot string `json:"backup_root"`
			}
		}
	}
	ask(t, "GET", address+"/admin/backup", "", 200, &list)
	if len(list.Backups) != 1 || list.BackupDir != h.path("backups") {
		t.Fatalf("list: %+v", list)
	}
	if b := list.Backups[0]; b.Stamp != taken.Stamp || !b.Exists || !b.HasMetadata ||
		b.Metadata.BackupRoot != taken.BackupRoot {
		t.Errorf("list: %+v", list)
	}
	var judged struct {
		Valid   bool
		Checked []string
	}
	ask(t, "GET", address+"/admin/backup/"+taken.Stamp+"/validate", "", 200, &judged)
	if !judged.Valid || len(judged.Checked) == 0 {
		t.Errorf("validation: %+v", judged)
	}
	if page := ask(t, "GET", address+"/", "", 200, nil); !strings.Contains(page, "You can restore to ") ||
		!strings.Contains(page, taken.Stamp) {
		t.Errorf("the page does not say so: %s", page)
	}
	if page := ask(t, "GET", address+"/snapshots/"+taken.Stamp, "", 200, nil); !strings.Contains(page,
		"newest valid") || !strings.Contains(page, "db/atocore.db") {
		t.Errorf("the snapshot's page: %s", page)
	}
	if text := ask(t, "GET", address+"/metrics", "", 200, nil); !strings.Contains(text,
		`atobackupd_snapshots{kind="manual",state="valid"} 1`) {
		t.Errorf("the metrics: %s", text)
	}
	var status health.Status
	ask(t, "GET", address+"/api/status", "", 200, &status)
	if string(status.Snapshots.Newest) != taken.Stamp || len(status.Legs) < 3 {
		t.Errorf("status: %+v", status)
	}
}

// TestHTTPTakeWaitsForNobody and is followed by what follows each take.
func TestHTTPTakeWaitsForNobody(t *testing.T) {
	h, address := startServing(t)
	cfg, err := config.Load(h.path("config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := app.Open(t.Context(), cfg, app.Options{LockTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	lock, err := other.Lock(t.Context(), "holding on")
	if err != nil {
		t.Fatal(err)
	}
	var refused struct{ Error string }
	ask(t, "POST", address+"/admin/backup", "{}", 409, &refused)
	if !strings.Contains(refused.Error, "holding on") {
		t.Errorf("refused: %q", refused.Error)
	}
	lock.Unlock()
	ask(t, "POST", address+"/admin/backup", `{"include_chroma": false}`, 200, nil)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var list struct{ Backups []struct{ Offsite []string } }
		ask(t, "GET", address+"/admin/backup", "", 200, &list)
		if len(list.Backups) == 1 && len(list.Backups[0].Offsite) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it was not sent off-site: %+v", list)
		}
	}
}

// TestHTTPAddressTaken is an alarm, and the daemon runs all the same.
func TestHTTPAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Config.HTTP.Listen = taken.Addr().String()
	d := newDaemon(a)
	d.alarmLoop = newAlarmLoop(t.Context(), d.app, time.Minute)
	if err := d.serveHTTP(t.Context())(context.Background()); err != nil {
		t.Error(err)
	}
	r := a.Report(t.Context(), time.Now())
	if len(r.Conditions) != 1 || r.Conditions[0].Name != alarmHTTP ||
		!strings.Contains(r.Conditions[0].Message, taken.Addr().String()) {
		t.Errorf("conditions: %+v", r.Conditions)
	}
}
