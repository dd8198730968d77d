package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
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
	var pings, rids []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if len(rids) == 0 || rids[len(rids)-1] != r.URL.Query().Get("rid") {
			rids = append(rids, r.URL.Query().Get("rid"))
		}
		text := regexp.MustCompile(`took [0-9.µm]+s`).ReplaceAllString(string(body), "took T")
		text = regexp.MustCompile(`time=\S+ `).ReplaceAllString(text, "")
		pings = append(pings, r.URL.Path+" "+strings.ReplaceAll(text, "\n", "; "))
	}))
	defer server.Close()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Options.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	a.KeepLog()
	errNotBegun := errors.New("not begun")
	timedOut, cancelTimedOut := context.WithCancelCause(t.Context())
	cancelTimedOut(scheduler.ErrTimeout)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	type caller struct{}
	daemons := context.WithValue(t.Context(), caller{}, "by the clock")
	for _, test := range []struct {
		name    string
		ctx     context.Context
		err     error
		outcome history.Outcome
		detail  health.RunDetail
		pings   string
	}{
		{"well", t.Context(), nil, history.OK, health.RunDetail{},
			"/snapshot/start |/snapshot took T; level=INFO msg=working"},
		{"failed", t.Context(), &failure.Error{Kind: failure.NoSpace, Op: "full"}, history.Failed,
			health.RunDetail{Failure: "no_space"},
			"/snapshot/start |/snapshot/fail full; took T; level=INFO msg=working"},
		{"failed before it began", t.Context(), errNotBegun, history.Failed, health.RunDetail{Failure: "error"},
			"/snapshot/fail not begun; took T; level=INFO msg=working"},
		{"by the daemon's clock, which may try again", daemons, errors.New("x"), history.Failed,
			health.RunDetail{Failure: "error", Daemon: true}, "/snapshot/start "},
		{"unreachable", t.Context(), &failure.Error{Kind: failure.Unreachable, Op: "away"}, history.Skipped,
			health.RunDetail{Failure: "unreachable"}, "/snapshot/start "},
		{"interrupted", cancelled, errors.New("connection closed"), history.Interrupted, health.RunDetail{},
			"/snapshot/start "},
		{"too long", timedOut, errors.New("connection closed"), history.TimedOut, health.RunDetail{Failure: "timeout"},
			"/snapshot/start |/snapshot/fail ran too long: connection closed; took T; level=INFO msg=working"},
		{"locked by hand", t.Context(), &failure.Error{Kind: failure.Locked, Op: "busy"}, history.Failed,
			health.RunDetail{Failure: "locked"}, "/snapshot/start "},
	} {
		hearts := notify.StartHeartbeats(map[string]string{"snapshot": server.URL + "/snapshot"},
			func(_ string, err error) {
				if err != nil {
					t.Errorf("%s: %v", test.name, err)
				}
			})
		a.SetPulse(hearts.Beat)
		a.Options.Daemon = test.ctx == daemons
		run := history.Run{}
		if a.Options.Daemon {
			run.Slot = noon
		}
		a.Options.Log.Info("before")
		err := a.runJob(test.ctx, "backup", health.LegSnapshot, run, func(run *jobRun) error {
			if !errors.Is(test.err, errNotBegun) {
				run.begun()
			}
			a.Options.Log.Info("working")
			return test.err
		})
		if (err == nil) != (test.err == nil) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := hearts.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		run, _, err = a.history.LastRun(t.Context(), "backup")
		if err != nil {
			t.Fatal(err)
		}
		detail := health.DetailOf(run)
		mu.Lock()
		if got := strings.Join(pings, "|"); run.Outcome != test.outcome || detail != test.detail || got != test.pings {
			t.Errorf("%s: %s %+v, pings %q; want %s %+v, %q", test.name, run.Outcome, detail, got, test.outcome,
				test.detail, test.pings)
		}
		if len(rids) != 1 || len(rids[0]) != 36 {
			t.Errorf("%s: run ids %q", test.name, rids)
		}
		pings, rids = nil, nil
		mu.Unlock()
	}
}

// A question that cannot be asked yet is no run of a command; of the daemon it
// is, for nobody else would notice.
func TestQuestionsAreNoRuns(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	ask := func(kind failure.Kind) (history.Run, bool) {
		t.Helper()
		err := a.runJob(t.Context(), "drill", health.LegDrill, history.Run{}, func(*jobRun) error {
			return &failure.Error{Op: "drill", Kind: kind, Hint: "atobackupd init"}
		})
		if err == nil {
			t.Error("it went well")
		}
		run, found, err := a.history.LastRun(t.Context(), "drill")
		if err != nil {
			t.Fatal(err)
		}
		return run, found
	}
	for _, kind := range []failure.Kind{failure.Usage, failure.Config, failure.NotFound} {
		if run, found := ask(kind); found {
			t.Errorf("kind %d is remembered: %+v", kind, run)
		}
	}
	if l, _ := a.Report(t.Context(), time.Now()).Leg(health.LegDrill); l.LastAttempt != nil {
		t.Errorf("the leg remembers: %+v", l)
	}
	a.Options.Daemon = true
	run, found := ask(failure.Config)
	if !found || run.Outcome != history.Failed || health.DetailOf(run).Hint != "atobackupd init" {
		t.Errorf("the daemon's is forgotten: %+v", run)
	}
}
