package app

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
)

// A daemon that does not start tells the last good addresses: once for each
// refusal, and again after a day.
func TestNoteRefusedStart(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, string(body))
	}))
	defer server.Close()
	c := config.Default()
	c.StateDir = t.TempDir()
	c.Notify.URLsFile = filepath.Join(t.TempDir(), "urls")
	address := "generic://" + strings.TrimPrefix(server.URL, "http://") + "/hunter2-token?disabletls=yes"
	if err := os.WriteFile(c.Notify.URLsFile, []byte(address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refusal, another := errors.New("config x:3:1: unknown key"), errors.New("config x:4:1: unknown table")
	now := time.Now()
	if err := NoteRefusedStart(t.Context(), c.StateDir, "vm", refusal, now); err != nil || len(got) != 0 {
		t.Fatalf("before any daemon started: %v, told %q", err, got)
	}
	if err := KeepAddresses(c); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(c.StateDir, addressesFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kept addresses: %v, %v", info.Mode(), err)
	}
	steps := []struct {
		refusal error
		after   time.Duration
		told    int
	}{
		{refusal, 0, 1}, {refusal, time.Minute, 1}, {another, 2 * time.Minute, 2}, {another, 23 * time.Hour, 2},
		{another, 25 * time.Hour, 3},
	}
	for i, step := range steps {
		if err := NoteRefusedStart(t.Context(), c.StateDir, "vm", step.refusal, now.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if len(got) != step.told {
			t.Fatalf("step %d: told %d times, want %d: %q", i, len(got), step.told, got)
		}
	}
	if !strings.Contains(got[0], "unknown key") || !strings.Contains(got[0], "no backup is taken") {
		t.Errorf("told %q", got[0])
	}
	if err := os.Remove(filepath.Join(c.StateDir, refusedFile)); err != nil { // a good start in between
		t.Fatal(err)
	}
	if err := NoteRefusedStart(t.Context(), c.StateDir, "vm", another, now); err != nil || len(got) != 4 {
		t.Errorf("refused anew: %v, told %d times", err, len(got))
	}
	server.Close()
	err := NoteRefusedStart(t.Context(), c.StateDir, "vm", refusal, now)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a dead address: %v", err)
	}
}
