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
	if err := a.checkMount(t.Context()); err != nil {
		t.Errorf("a known snapshot is there, so an older version made it: %v", err)
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
