package app

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/scheduler"
)

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
	retried := WithAttempt(t.Context(), scheduler.Slot{At: noon, Attempt: 1}, 3)
	last := WithAttempt(t.Context(), scheduler.Slot{At: noon, Attempt: 4}, 3)
	for _, test := range []struct {
		name    string
		ctx     context.Context
		err     error
		outcome history.Outcome
		detail  health.RunDetail
		pings   string
	}{
		{"well", t.Context(), nil, history.OK, health.RunDetail{}, "/snapshot/start |/snapshot "},
		{"failed", t.Context(), &failure.Error{Kind: failure.NoSpace, Op: "full"}, history.Failed, health.RunDetail{Failure: "no_space"}, "/snapshot/start |/snapshot/fail full"},
		{"to be retried", retried, errors.New("x"), history.Failed, health.RunDetail{Failure: "error", Daemon: true}, "/snapshot/start "},
		{"retries are over", last, errors.New("x"), history.Failed, health.RunDetail{Failure: "error", Daemon: true}, "/snapshot/start |/snapshot/fail x"},
		{"unreachable", t.Context(), &failure.Error{Kind: failure.Unreachable, Op: "away"}, history.Skipped, health.RunDetail{Failure: "unreachable"}, "/snapshot/start "},
		{"interrupted", cancelled, errors.New("connection closed"), history.Interrupted, health.RunDetail{}, "/snapshot/start "},
		{"too long", timedOut, errors.New("connection closed"), history.TimedOut, health.RunDetail{Failure: "timeout"}, "/snapshot/start |/snapshot/fail ran too long: connection closed"},
		{"locked by hand", t.Context(), &failure.Error{Kind: failure.Locked, Op: "busy"}, history.Failed, health.RunDetail{Failure: "locked"}, "/snapshot/start "},
	} {
		hearts := notify.StartHeartbeats(map[string]string{"snapshot": server.URL + "/snapshot"}, func(err error) { t.Errorf("%s: %v", test.name, err) })
		a.SetPulse(hearts.Beat)
		err := a.runJob(test.ctx, "backup", health.LegSnapshot, history.Run{}, func(run *history.Run) error { return test.err })
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
		detail := health.DetailOf(run)
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
