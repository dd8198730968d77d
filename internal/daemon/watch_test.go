package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/scheduler"
)

func newTestWatch(t *testing.T, h *house) *watch {
	t.Helper()
	a := h.open()
	t.Cleanup(func() { a.Close() })
	w := newWatch(t.Context(), func() *App { return a })
	w.use(h.sink)
	return w
}

// Something that turns good and bad all the time is told six times an hour.
func TestNoStorm(t *testing.T) {
	h := newHouse(t, "")
	w := newTestWatch(t, h)
	now := noon
	for range 60 {
		w.bad("config", "refused")
		w.pass(t.Context(), now)
		now = now.Add(30 * time.Second)
		w.good("config")
		w.pass(t.Context(), now)
		now = now.Add(30 * time.Second)
	}
	if n := len(h.sink.take()); n != messagesAnHour {
		t.Errorf("%d messages in an hour, want %d", n, messagesAnHour)
	}
}

// Many things at once are one message, and a restart repeats none of it.
func TestManyAtOnce(t *testing.T) {
	h := newHouse(t, "")
	w := newTestWatch(t, h)
	for _, name := range []string{"config", "job:daily", "job:weekly", "job:prune"} {
		w.bad(name, "bad")
	}
	w.pass(t.Context(), noon)
	if got := h.sink.take(); len(got) != 1 || strings.Count(got[0], "CRITICAL") != 4 {
		t.Errorf("%q", got)
	}
	again := newTestWatch(t, h)
	for _, name := range []string{"config", "job:daily", "job:weekly"} {
		again.bad(name, "bad")
	}
	again.pass(t.Context(), noon.Add(time.Minute))
	if got := h.sink.take(); len(got) != 1 || !strings.Contains(got[0], "RECOVERED job:prune") || strings.Contains(got[0], "CRITICAL") {
		t.Errorf("after a restart: %q", got)
	}
}

// A disk that takes no history is told of, and so is what it hides.
func TestHistoryCannotBeWritten(t *testing.T) {
	h := newHouse(t, "")
	w := newTestWatch(t, h)
	a := w.app()
	if err := a.history.Close(); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("no space left on device")
	err := a.runJob(t.Context(), "backup", legSnapshot, history.Run{Kind: "daily"}, func(*history.Run) error { return failed })
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range 5 {
		w.pass(t.Context(), now.Add(time.Duration(i)*time.Minute))
	}
	got := h.sink.take()
	if len(got) != 1 || !strings.Contains(got[0], "CRITICAL snapshot: no space left") || !strings.Contains(got[0], "CRITICAL history") {
		t.Errorf("%q", got)
	}
}

// The daemon that follows one that was killed tells of it, until it has lived
// for an hour itself.
func TestEndedBadly(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.tellers = func(*config.Config) (teller, error) { return h.sink, nil }
	if err := a.NoteEnd(t.Context(), "watchdog", "killed", "ABRT"); err != nil {
		t.Fatal(err)
	}
	if got := h.sink.take(); len(got) != 1 || !strings.Contains(got[0], "CRITICAL daemon") || !strings.Contains(got[0], "watchdog (killed ABRT)") {
		t.Fatalf("%q", got)
	}
	if err := a.NoteEnd(t.Context(), "exit-code", "exited", "1"); err != nil {
		t.Fatal(err)
	}
	if got := h.sink.take(); len(got) != 0 {
		t.Fatalf("each vain start is told: %q", got)
	}
	a.recordLife(t.Context())
	now := time.Now()
	if a.endedBadly(t.Context(), now.Add(59*time.Minute)) == "" {
		t.Error("over before it has lived for an hour")
	}
	if why := a.endedBadly(t.Context(), now.Add(61*time.Minute)); why != "" {
		t.Errorf("not over after an hour: %s", why)
	}
}

// What a run is worth: its outcome, what the leg remembers, the heartbeats.
func TestRunJob(t *testing.T) {
	var mu sync.Mutex
	var pings []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		pings = append(pings, r.URL.Path+" "+string(body))
	}))
	defer server.Close()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	timedOut, cancelTimedOut := context.WithCancelCause(t.Context())
	cancelTimedOut(scheduler.ErrTimeout)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	retried := withAttempt(t.Context(), scheduler.Slot{At: noon, Attempt: 1}, 3)
	last := withAttempt(t.Context(), scheduler.Slot{At: noon, Attempt: 4}, 3)
	for _, test := range []struct {
		name    string
		ctx     context.Context
		err     error
		outcome history.Outcome
		detail  runDetail
		pings   string
	}{
		{"well", t.Context(), nil, history.OK, runDetail{}, "/snapshot/start |/snapshot "},
		{"failed", t.Context(), &failure.Error{Kind: failure.NoSpace, Op: "full"}, history.Failed, runDetail{Failure: "no_space"}, "/snapshot/start |/snapshot/fail full"},
		{"to be retried", retried, errors.New("x"), history.Failed, runDetail{Failure: "error", Daemon: true}, "/snapshot/start "},
		{"retries are over", last, errors.New("x"), history.Failed, runDetail{Failure: "error", Daemon: true}, "/snapshot/start |/snapshot/fail x"},
		{"unreachable", t.Context(), &failure.Error{Kind: failure.Unreachable, Op: "away"}, history.Skipped, runDetail{Failure: "unreachable"}, "/snapshot/start "},
		{"interrupted", cancelled, errors.New("connection closed"), history.Interrupted, runDetail{}, "/snapshot/start "},
		{"too long", timedOut, errors.New("connection closed"), history.TimedOut, runDetail{Failure: "timeout"}, "/snapshot/start |/snapshot/fail ran too long: connection closed"},
		{"locked by hand", t.Context(), &failure.Error{Kind: failure.Locked, Op: "busy"}, history.Failed, runDetail{Failure: "locked"}, "/snapshot/start "},
	} {
		hearts := notify.StartHeartbeats(map[string]string{"snapshot": server.URL + "/snapshot"}, func(err error) { t.Errorf("%s: %v", test.name, err) })
		a.process.pulse = hearts.Beat
		err := a.runJob(test.ctx, "backup", legSnapshot, history.Run{}, func(run *history.Run) error { return test.err })
		if (err == nil) != (test.err == nil) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := hearts.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		run, _, err := a.history.LastRun(t.Context(), "backup")
		if err != nil {
			t.Fatal(err)
		}
		detail := detailOf(run)
		if retry := detail.RetryAt; retry.IsZero() != (test.name != "to be retried") {
			t.Errorf("%s: it is tried again at %v", test.name, retry)
		}
		detail.RetryAt = time.Time{}
		mu.Lock()
		if got := strings.Join(pings, "|"); run.Outcome != test.outcome || detail != test.detail || got != test.pings {
			t.Errorf("%s: %s %+v, pings %q; want %s %+v, %q", test.name, run.Outcome, detail, got, test.outcome, test.detail, test.pings)
		}
		pings = nil
		mu.Unlock()
	}
}

func TestUndo(t *testing.T) {
	var u undo
	var order []string
	step := func(name string, err error) func(context.Context) error {
		return func(context.Context) error {
			order = append(order, name)
			return err
		}
	}
	first := errors.New("first failed")
	u.add("first", time.Minute, step("first", first))
	u.add("hangs", 10*time.Millisecond, func(context.Context) error { select {} })
	u.add("third", time.Minute, step("third", nil))
	err := u.run()
	if strings.Join(order, " ") != "third first" || !errors.Is(err, first) || !strings.Contains(err.Error(), "hangs: not done within 10ms") {
		t.Errorf("%q, %v", order, err)
	}
	if err := u.run(); err != nil {
		t.Errorf("undone twice: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "id_ed25519"), "key")
	put(t, filepath.Join(dir, "http-token"), "\n")
	cfg := &config.Config{Offsite: []config.Target{{IdentityFile: "/etc/atobackupd/id_ed25519"}, {}}}
	cfg.HTTP.TokenFile = "/etc/atobackupd/http-token"
	own := withCredentials(cfg, dir)
	if own.Offsite[0].IdentityFile != filepath.Join(dir, "id_ed25519") || own.Offsite[1].IdentityFile != "" || own.HTTP.TokenFile != cfg.HTTP.TokenFile {
		t.Errorf("%+v", own)
	}
	if cfg.Offsite[0].IdentityFile != "/etc/atobackupd/id_ed25519" {
		t.Error("the configuration that was given has changed")
	}
	if same := withCredentials(cfg, ""); same.Offsite[0].IdentityFile != cfg.Offsite[0].IdentityFile {
		t.Errorf("%+v", same)
	}
	if err := os.Remove(filepath.Join(dir, "id_ed25519")); err != nil {
		t.Fatal(err)
	}
	if own := withCredentials(cfg, dir); own.Offsite[0].IdentityFile != cfg.Offsite[0].IdentityFile {
		t.Error("a missing credential takes the file's place")
	}
}
