package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot"
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

// A question that cannot be asked yet is no run of a command; whatever else keeps
// a job from its work is. Of the daemon everything is, for nobody else would
// notice.
func TestQuestionsAreNoRuns(t *testing.T) {
	kinds := map[string]failure.Kind{"usage": failure.Usage, "config": failure.Config, "not found": failure.NotFound,
		"other": failure.Other, "mismatch": failure.VaultMismatch, "stale": failure.Stale}
	for _, test := range []struct {
		job, leg  string
		questions []string
	}{
		{"drill", health.LegDrill, []string{"usage", "config", "not found"}},
		{"sync:disk", health.LegOffsite("disk"), nil},
		{"verify:disk", health.LegVerify("disk"), []string{"usage", "config", "not found"}},
		{"backup", health.LegSnapshot, []string{"usage"}},
		{"prune", health.LegPrune, []string{"usage"}},
		{"scrub", health.LegScrub, []string{"usage"}},
	} {
		a := newHouse(t, "").open()
		last := int64(0)
		for _, daemon := range []bool{false, true} {
			for name, kind := range kinds {
				a.Options.Daemon = daemon
				err := a.runJob(t.Context(), test.job, test.leg, history.Run{Slot: noon}, func(*jobRun) error {
					return &failure.Error{Op: "asked", Kind: kind, Hint: "atobackupd init"}
				})
				if err == nil {
					t.Errorf("%s, %s: it went well", test.job, name)
				}
				run, found, err := a.history.LastRun(t.Context(), test.job)
				if err != nil {
					t.Fatal(err)
				}
				found, last = found && run.ID > last, max(last, run.ID)
				if want := daemon || !slices.Contains(test.questions, name); found != want {
					t.Errorf("%s, %s, daemon %v: a run %v, want %v", test.job, name, daemon, found, want)
				}
				if found && (run.Outcome != history.Failed || health.DetailOf(run).Hint != "atobackupd init") {
					t.Errorf("%s, %s, daemon %v: %+v", test.job, name, daemon, run)
				}
				if l, _ := a.Report(t.Context(), time.Now()).Leg(test.leg); last == 0 && l.LastAttempt != nil {
					t.Errorf("%s, %s: the leg remembers: %+v", test.job, name, l)
				}
			}
		}
		a.Close()
	}
}

// A sync or a verify that lacks what it had is told: a vault that is gone, a
// signing key that is lost. A verify before the first sync is not.
func TestTargetThatIsGoneIsTold(t *testing.T) {
	sync := func(a *App) error { _, err := a.Sync(t.Context(), "", false); return err }
	verify := func(a *App) error { _, err := a.VerifyTargets(t.Context(), "", VerifyBounds{}); return err }
	lostVault := func(h *shipped) { h.move("vault", "elsewhere") }
	emptied := func(h *shipped) {
		lostVault(h)
		if err := os.Mkdir(h.path("vault"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lostKey := func(h *shipped) { h.move("state/signing_key", "key") }
	for _, test := range []struct {
		name, leg string
		lose      func(h *shipped)
		ask       func(a *App) error
	}{
		{"sync, the vault is gone", health.LegOffsite("disk"), lostVault, sync},
		{"sync, its directory is empty", health.LegOffsite("disk"), emptied, sync},
		{"sync, the signing key is lost", health.LegOffsite("disk"), lostKey, sync},
		{"verify, the vault is gone", health.LegVerify("disk"), lostVault, verify},
		{"verify, its directory is empty", health.LegVerify("disk"), emptied, verify},
	} {
		h := newShipped(t, "")
		test.lose(h)
		a := h.open()
		err := test.ask(a)
		leg, _ := a.Report(t.Context(), time.Now()).Leg(test.leg)
		if err == nil || leg.Level != health.LevelCritical || leg.Hint == "" || leg.Message == "" {
			t.Errorf("%s: %v: %+v", test.name, err, leg)
		}
		a.Close()
	}
	h := newHouse(t, "")
	emptied(&shipped{house: h})
	a := h.open()
	defer a.Close()
	err := verify(a)
	if leg, _ := a.Report(t.Context(), time.Now()).Leg(health.LegVerify("disk")); err == nil ||
		leg.Level == health.LevelCritical {
		t.Errorf("before the first sync: %v: %+v", err, leg)
	}
}

// A history that cannot be read is told, and no leg claims that it never ran.
func TestHistoryThatCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"garbage": func(path string) error {
			return os.WriteFile(path, []byte("no database at all, at length"), 0o600)
		},
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		h := newHouse(t, "")
		a := h.open()
		if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Now()); err != nil {
			t.Fatal(err)
		}
		cfg := a.Config
		a.Close()
		h.move("state/history.db", "old.db")
		if err := spoil(h.path("state/history.db")); err != nil {
			t.Fatal(err)
		}
		look, err := Open(t.Context(), cfg, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		r := look.Report(t.Context(), time.Now())
		i := slices.IndexFunc(r.Conditions, func(c health.Condition) bool { return c.Name == health.ConditionHistory })
		if i < 0 || r.Conditions[i].Level != health.LevelCritical || r.Conditions[i].Hint == "" {
			t.Errorf("%s: %+v", name, r.Conditions)
		}
		for _, leg := range r.Legs {
			if strings.Contains(leg.Message, "never ran") {
				t.Errorf("%s: %s: %s", name, leg.Name, leg.Message)
			}
		}
		look.Close()
	}
}

// A daemon whose history is removed goes on in a new one, and knows no more than a
// command which reads that.
func TestHistoryRemovedUnderADaemon(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Options.Daemon = true
	h.backup(a)
	h.move("state/history.db", "old.db")
	facts, _ := a.Facts(t.Context(), time.Now())
	if got := facts.History; got.WriteError != "" || got.Missing || got.StartedOver.IsZero() {
		t.Errorf("%+v", got)
	}
	for _, leg := range facts.Legs {
		if !leg.LastSuccess.IsZero() {
			t.Errorf("%s is remembered: %v", leg.Name, leg.LastSuccess)
		}
		if !leg.Next.IsZero() && leg.Watched.IsZero() {
			t.Errorf("%s is not watched any more", leg.Name)
		}
	}
	h.backup(a)
	look := h.open()
	defer look.Close()
	if runs, err := look.history.Runs(t.Context(), "backup", time.Time{}, 9); err != nil || len(runs) != 1 {
		t.Errorf("what ran since: %+v %v", runs, err)
	}
}
