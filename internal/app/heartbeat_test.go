package app

import (
	"errors"
	"net/http"
	"net/http/httptest"
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
)

var uuid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestNewRunID(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		id := newRunID()
		if !uuid4.MatchString(id) || seen[id] {
			t.Fatalf("%s is no new UUID", id)
		}
		seen[id] = true
	}
}

// heart is what a leg's heartbeats heard.
type heart struct{ beats []string }

func (h *heart) listen(a *App) (ids map[string]bool) {
	ids = make(map[string]bool)
	a.SetPulse(func(leg string, b notify.Beat) {
		text := leg + " " + map[notify.Signal]string{notify.Start: "start", notify.Success: "ok",
			notify.Fail: "fail"}[b.Signal]
		if why, _, _ := strings.Cut(b.Body, "\n"); b.Signal == notify.Fail {
			text += " " + why
		}
		h.beats, ids[b.RunID] = append(h.beats, text), true
	})
	return ids
}

func (h *heart) want(t *testing.T, name string, want ...string) {
	t.Helper()
	if !slices.Equal(h.beats, want) {
		t.Errorf("%s: %q, want %q", name, h.beats, want)
	}
	h.beats = nil
}

// A command's run calls the addresses of its legs as the daemon's does, before the
// command ends; one that only looks calls none.
func TestCommandBeats(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var heard []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, r.URL.Path)
	}))
	defer server.Close()
	h := newHouse(t, "[notify.heartbeats]\nsnapshot = \""+server.URL+"/x\"\n")
	for _, test := range []struct {
		err  error
		want []string
	}{{nil, []string{"/x/start", "/x"}}, {errors.New("torn"), []string{"/x/start", "/x/fail"}}} {
		a := h.open()
		_ = a.runJob(t.Context(), "backup", health.LegSnapshot, history.Run{}, func(run *jobRun) error {
			run.begun()
			return test.err
		})
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if !slices.Equal(heard, test.want) {
			t.Errorf("%v: heard %q, want %q", test.err, heard, test.want)
		}
		heard = nil
		mu.Unlock()
	}
}

// In which order the legs of a run hear of it, all with one id: the start once the
// work has begun, then how it ended.
func TestHeartbeatOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	var heard heart
	run := func(leg string, err error, began bool) {
		t.Helper()
		_ = a.runJob(t.Context(), "backup", leg, history.Run{}, func(run *jobRun) error {
			if began {
				run.begun()
				run.begun() // once is enough
			}
			return err
		})
	}
	for _, test := range []struct {
		name, leg string
		err       error
		began     bool
		want      []string
	}{
		{"a bare take", health.LegSnapshot, nil, true, []string{"snapshot start", "snapshot ok"}},
		{"a full take is a take too", health.LegFull, nil, true,
			[]string{"snapshot start", "full start", "snapshot ok", "full ok"}},
		{"a full take that fails", health.LegFull, errors.New("torn"), true,
			[]string{"snapshot start", "full start", "snapshot fail torn", "full fail torn"}},
		{"one that never began", health.LegSnapshot, errors.New("torn"), false, []string{"snapshot fail torn"}},
		{"one that was skipped", health.LegOffsite("laptop"),
			&failure.Error{Op: "sync", Kind: failure.Unreachable}, true, []string{"offsite:laptop start"}},
		{"one of no leg", "", nil, true, nil},
	} {
		ids := heard.listen(a)
		run(test.leg, test.err, test.began)
		heard.want(t, test.name, test.want...)
		if len(test.want) > 0 && len(ids) != 1 {
			t.Errorf("%s: %d run ids", test.name, len(ids))
		}
	}
	// Where no address is configured nobody listens.
	a.SetPulse(nil)
	run(health.LegSnapshot, nil, true)
	heard.want(t, "nobody listens")
}

// What the daemon starts again is no failure yet; for good it is told under the id
// of the run that failed.
func TestJobFailedForGood(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Options.Daemon = true
	var heard heart
	ids := heard.listen(a)
	why := errors.New("torn")
	_ = a.runJob(t.Context(), "scrub", health.LegScrub, history.Run{Slot: noon}, func(run *jobRun) error {
		run.begun()
		return why
	})
	heard.want(t, "the daemon tries again", "scrub start")
	a.JobFailed(health.LegScrub, why, time.Second)
	heard.want(t, "for good", "scrub fail torn")
	if len(ids) != 1 {
		t.Errorf("the run ids differ: %v", ids)
	}
}

// What a signal carries: why, how long, and what was logged since it began.
func TestBeatText(t *testing.T) {
	a := &App{process: newProcess()}
	if got := a.beatText("", noon, 90*time.Second); got != "took 1m30s" {
		t.Errorf("%q", got)
	}
	a.process.tail = &logTail{}
	a.process.tail.add(noon.Add(-time.Second), "before")
	a.process.tail.add(noon.Add(time.Second), "working")
	if got := a.beatText("torn", noon, 1234567*time.Nanosecond); got != "torn\ntook 1ms\nworking" {
		t.Errorf("%q", got)
	}
}

// Which legs a run counts for.
func TestServedBy(t *testing.T) {
	for leg, want := range map[string][]string{
		"":                       nil,
		health.LegSnapshot:       {"snapshot"},
		health.LegFull:           {"snapshot", "full"},
		health.LegScrub:          {"scrub"},
		health.LegOffsite("usb"): {"offsite:usb"},
	} {
		if got := servedBy(leg); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", leg, got, want)
		}
	}
}
