package app

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
)

// openWith opens the installation with a changed configuration.
func (h *house) openWith(change func(c *config.Config)) *App {
	h.t.Helper()
	cfg, err := config.Load(h.path("config.toml"))
	if err != nil {
		h.t.Fatal(err)
	}
	change(cfg)
	a, err := Open(h.t.Context(), cfg,
		Options{Version: "test", Host: "dalidou", Log: slog.New(slog.NewTextHandler(h.t.Output(), nil))})
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// Two daemons on one state_dir, or on one backup.dir, are one too many: the second
// is refused, both sides hear of it, and an hour later it is forgotten.
func TestSecondDaemon(t *testing.T) {
	for name, other := range map[string]func(h *house, c *config.Config){
		"the same state_dir": func(*house, *config.Config) {},
		"another state_dir":  func(h *house, c *config.Config) { c.StateDir = h.path("other") },
	} {
		h := newHouse(t, "")
		first := h.open()
		defer first.Close()
		release, err := first.HoldLife(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second := h.openWith(func(c *config.Config) { other(h, c) })
		defer second.Close()
		_, err = second.HoldLife(t.Context())
		if failure.KindOf(err) != failure.Locked || !strings.Contains(err.Error(), "another daemon runs here: ") {
			t.Errorf("%s: a second daemon starts: %v", name, err)
		}
		now := time.Now()
		for who, a := range map[string]*App{"the first": first, "the second": second} {
			facts, _ := a.Facts(t.Context(), now)
			if facts.Daemon.Second == nil || !strings.Contains(facts.Daemon.Second.Message, second.Config.StateDir) {
				t.Errorf("%s: %s does not hear of it: %+v", name, who, facts.Daemon.Second)
			}
			for _, later := range []time.Duration{settled + time.Minute, -settled - time.Minute} {
				if _, trouble := a.daemonTroubles(t.Context(), now.Add(later)); trouble != nil {
					t.Errorf("%s: %s hears of it %v later: %+v", name, who, later, trouble)
				}
			}
		}
		release()
		release, err = second.HoldLife(t.Context())
		if err != nil {
			t.Errorf("%s: the first has ended, and the second is refused: %v", name, err)
			continue
		}
		release()
	}
}

// What lies beside the backups can raise a condition, and garbage there does nothing.
func TestSecondStartedIsInput(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for text, told := range map[string]bool{
		"":  false,
		"{": false,
		`{"at": "2026-04-07T11:30:00Z", "what": "x"}`:                                 true,
		`{"at": "2026-04-07T10:00:00Z", "what": "x"}`:                                 false,
		`{"at": "2040-04-07T10:00:00Z", "what": "x"}`:                                 false,
		`{"at": "2026-04-07T11:30:00Z", "what": "` + strings.Repeat("x", 5000) + `"}`: false,
	} {
		put(t, a.secondPath(), text)
		if got := a.secondStarted(noon); (got != nil) != told {
			t.Errorf("%.60q: told %v", text, got != nil)
		}
	}
	if err := os.Remove(a.secondPath()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(a.secondPath(), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := a.secondStarted(noon); got != nil {
		t.Errorf("a directory: %+v", got)
	}
}

// Who keeps the schedule, by what the last daemon said and by whether it lives.
func TestDaemonFacts(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	at := func(ago time.Duration) time.Time { return noon.Add(-ago) }
	for _, test := range []struct {
		name  string
		life  Life
		alive bool
		state string
		level string // of the condition; "" for none
	}{
		{"never", Life{}, false, health.DaemonNever, health.LevelWarning},
		{"it runs", Life{Since: at(time.Hour), Beat: at(time.Minute)}, true, health.DaemonRunning, ""},
		{"it hangs", Life{Since: at(time.Hour), Beat: at(6 * time.Minute)}, true, health.DaemonHung,
			health.LevelCritical},
		{"its beat is of a clock that was ahead", Life{Since: at(time.Hour), Beat: at(-30 * 24 * time.Hour)}, true,
			health.DaemonHung, health.LevelCritical},
		{"it stopped just now", Life{Beat: at(4 * time.Minute)}, false, health.DaemonStopped, ""},
		{"it stopped", Life{Beat: at(6 * time.Minute)}, false, health.DaemonStopped, health.LevelWarning},
		{"it stopped, and the clock was put back", Life{Beat: at(-30 * 24 * time.Hour)}, false, health.DaemonStopped,
			health.LevelWarning},
	} {
		d := a.daemonFacts(t.Context(), test.life, test.alive, noon)
		r := health.Judge(health.Facts{Daemon: d}, noon)
		level := ""
		if len(r.Conditions) > 0 {
			level = r.Conditions[0].Level
		}
		if d.State != test.state || level != test.level {
			t.Errorf("%s: %s, %q; want %s, %q", test.name, d.State, level, test.state, test.level)
		}
	}
}

// Half a file of the daemon's says nothing, and a directory in its place is told.
func TestLifeFile(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if l, alive, err := a.life(); alive || err != nil || !l.Beat.IsZero() {
		t.Errorf("before any daemon: %+v, %v, %v", l, alive, err)
	}
	for _, text := range []string{"", "{", `{"beat": 3}`, "null"} {
		put(t, h.path("state/daemon.json"), text)
		if l, alive, err := a.life(); alive || err != nil || !l.Beat.IsZero() {
			t.Errorf("%q: %+v, %v, %v", text, l, alive, err)
		}
		if l := a.LastLife(); len(l.Notify) != 0 {
			t.Errorf("%q: %+v", text, l)
		}
	}
	put(t, h.path("state/daemon.json"),
		`{"beat": "2026-04-07T11:00:00Z", "notify": [{"key": "k", "message": "m", "since": "2026-04-07T10:00:00Z"}]}`)
	if l := a.LastLife(); len(l.Notify) != 1 || l.Notify[0].Key != "k" || l.Notify[0].Message != "m" {
		t.Errorf("what the last daemon said: %+v", l)
	}
	if err := errors.Join(os.Remove(h.path("state/daemon.json")), os.Mkdir(h.path("state/daemon.json"),
		0o700)); err != nil {
		t.Fatal(err)
	}
	facts, _ := a.Facts(t.Context(), time.Now())
	if len(facts.Others) != 1 || facts.Others[0].Name != "state_dir" {
		t.Errorf("a directory in its place: %+v", facts.Others)
	}
}

// The marker says of a directory that it is the backup directory.
func TestCheckMount(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	if _, err := os.Stat(a.markerPath()); err != nil {
		t.Fatalf("the first opening leaves no marker: %v", err)
	}
	if err := os.Remove(a.markerPath()); err != nil {
		t.Fatal(err)
	}
	if err := a.checkMount(t.Context()); err != nil {
		t.Errorf("no snapshot is known, so nothing is missing: %v", err)
	}
	taken, err := a.Backup(t.Context(), "manual", false, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	h.move("backups/snapshots/"+string(taken.Stamp), "away")
	err = a.checkMount(t.Context())
	if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "accept backup-dir") {
		t.Errorf("marker and snapshots are gone: %v", err)
	}
	if _, err := a.Backup(t.Context(), "manual", false, time.Time{}); failure.KindOf(err) != failure.Refused {
		t.Errorf("a take on a bare mount point: %v", err)
	}
	if _, err := os.Stat(a.markerPath()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused take made the marker: %v", err)
	}
	if err := a.AcceptBackupDir(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Backup(t.Context(), "manual", false, time.Time{}); err != nil {
		t.Errorf("accepted, and refused: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// How long the end of a daemon before this one, and the start of a second one, are
// told of.
func TestDaemonTroubles(t *testing.T) {
	type life struct {
		started, ended time.Duration // before noon; ended < 0 for one that runs
		outcome        history.Outcome
		kind           string
	}
	for _, test := range []struct {
		name          string
		lives         []life // oldest first
		crash, second bool
	}{
		{"none", nil, false, false},
		{"ended in order", []life{{100, 90, history.OK, ""}}, false, false},
		{"crashed", []life{{100, 90, history.Failed, ""}}, true, false},
		{"crashed, and one runs since then for a while",
			[]life{{100, 90, history.Failed, ""}, {80, -1, history.Running, ""}}, false, false},
		{"crashed, and one has just begun",
			[]life{{100, 90, history.Failed, ""}, {5, -1, history.Running, ""}}, true, false},
		{"crashed, and the next ended in order", []life{{100, 90, history.Failed, ""}, {80, 79, history.OK, ""}}, false,
			false},
		{"a second one within the hour", []life{{50, 50, history.Failed, secondDaemon}}, false, true},
		{"a second one long ago", []life{{70, 70, history.Failed, secondDaemon}}, false, false},
		{"a second one after a crash", []life{{100, 90, history.Failed, ""}, {20, 20, history.Failed, secondDaemon}},
			true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "")
			a := h.open()
			defer a.Close()
			for _, l := range test.lives {
				record(t, a, history.Run{Job: DaemonJob, Kind: l.kind, StartedAt: noon.Add(-l.started * time.Minute),
					FinishedAt: noon.Add(-l.ended * time.Minute), Outcome: l.outcome, Error: "the watchdog"})
			}
			crash, second := a.daemonTroubles(t.Context(), noon)
			if (crash != nil) != test.crash || (second != nil) != test.second {
				t.Errorf("crash %+v, second %+v", crash, second)
			}
			if crash != nil && (crash.Message != "the watchdog" || !strings.Contains(crash.Hint, "journalctl")) {
				t.Errorf("%+v", crash)
			}
		})
	}
}

// What a daemon says of itself is heard by others, and only while it lives.
func TestLife(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	daemon, command := h.open(), h.open()
	defer daemon.Close()
	defer command.Close()
	if l, alive, err := command.life(); alive || err != nil || !l.Beat.IsZero() {
		t.Errorf("before any: %+v, %v, %v", l, alive, err)
	}
	release, err := daemon.HoldLife(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := Life{PID: 42, Since: noon, Beat: noon.Add(time.Minute), History: "disk full",
		Config: &health.Trouble{Message: "line 3"}, Retries: map[string]time.Time{"scrub": noon.Add(time.Hour)}}
	if err := daemon.SetLife(said); err != nil {
		t.Fatal(err)
	}
	l, alive, err := command.life()
	if err != nil || !alive || l.PID != 42 || !l.Beat.Equal(said.Beat) || l.History != "disk full" ||
		l.Config == nil || l.Config.Message != "line 3" || !l.Retries["scrub"].Equal(noon.Add(time.Hour)) {
		t.Errorf("the command hears %+v, %v, %v", l, alive, err)
	}
	// Of the history the daemon itself knows better than what it last wrote.
	if l, alive, _ = daemon.life(); !alive || l.History != "" || l.PID != 42 {
		t.Errorf("the daemon itself: %+v, %v", l, alive)
	}
	facts, _ := command.Facts(t.Context(), noon.Add(2*time.Minute))
	if facts.Daemon.State != health.DaemonRunning || facts.Config == nil || facts.History.WriteError != "disk full" {
		t.Errorf("%+v, %+v, %+v", facts.Daemon, facts.Config, facts.History)
	}
	release()
	if _, alive, _ = command.life(); alive {
		t.Error("it lives on")
	}
	facts, _ = command.Facts(t.Context(), noon.Add(2*time.Minute))
	if facts.Daemon.State != health.DaemonStopped || facts.Config != nil || facts.History.WriteError != "" {
		t.Errorf("a dead one is believed: %+v, %+v, %+v", facts.Daemon, facts.Config, facts.History)
	}
	if l := command.LastLife(); l.PID != 42 {
		t.Errorf("%+v", l)
	}
	// Half a file says nothing.
	h.write("state/"+lifeFile, `{"pid": 4`)
	if l, alive, err := command.life(); err != nil || alive || !l.Beat.IsZero() {
		t.Errorf("%+v, %v, %v", l, alive, err)
	}
}

// A second daemon is refused, also one of another state_dir over the same backups,
// and the one that runs hears of it.
func TestSecondDaemonIsTold(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(map[bool]string{false: "of the same state", true: "of another state"}[elsewhere], func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "")
			first := h.open()
			defer first.Close()
			release, err := first.HoldLife(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			if elsewhere {
				text, err := os.ReadFile(h.path("config.toml"))
				if err != nil {
					t.Fatal(err)
				}
				h.write("config.toml", strings.Replace(string(text), h.path("state"), h.path("other-state"), 1))
			}
			second := h.open()
			defer second.Close()
			if _, err := second.HoldLife(t.Context()); failure.KindOf(err) != failure.Locked ||
				!strings.Contains(err.Error(), "another daemon runs here") ||
				!strings.Contains(failure.HintOf(err), "systemctl stop") {
				t.Fatalf("%v", err)
			}
			facts, _ := first.Facts(t.Context(), time.Now())
			if facts.Daemon.Second == nil || !strings.Contains(facts.Daemon.Second.Message, second.Config.StateDir) {
				t.Errorf("%+v", facts.Daemon.Second)
			}
			if !hasCondition(first.Report(t.Context(), time.Now()).Conditions, "daemon") {
				t.Error("nobody is told")
			}
			if facts, _ = first.Facts(t.Context(), time.Now().Add(2*settled)); facts.Daemon.Second != nil {
				t.Errorf("for ever: %+v", facts.Daemon.Second)
			}
		})
	}
}

// What lies beside the backups can raise a condition, and nothing else.
func TestSecondStarted(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, test := range []struct {
		name, text string
		want       bool
	}{
		{"within the hour", `{"at": "2026-04-07T11:30:00Z", "what": "a second daemon"}`, true},
		{"long ago", `{"at": "2026-04-07T10:30:00Z", "what": "a second daemon"}`, false},
		{"of the future", `{"at": "2026-04-07T15:30:00Z", "what": "a second daemon"}`, false},
		{"no JSON", `a second daemon`, false},
		{"of no end", `{"at": "2026-04-07T11:30:00Z", "what": "` + strings.Repeat("x", 5000) + `"}`, false},
	} {
		put(t, a.secondPath(), test.text)
		if got := a.secondStarted(noon); (got != nil) != test.want {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
	h.remove("backups/.second-daemon.json")
	if got := a.secondStarted(noon); got != nil {
		t.Errorf("none: %+v", got)
	}
}
