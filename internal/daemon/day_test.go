package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/app/apptest"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/notify"
)

// sink stands for the people who are told.
type sink struct {
	mu       sync.Mutex
	deaf     bool
	heard    func(key string, err error)
	messages []string
}

func (s *sink) Keys() []string                         { return []string{"sink"} }
func (s *sink) Retry(context.Context, time.Time) error { return nil }
func (s *sink) Send(_ context.Context, now time.Time, m notify.Message) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deaf {
		err := errors.New("nobody listens")
		s.heard("sink", err)
		return false, err
	}
	s.heard("sink", nil)
	s.messages = append(s.messages, now.UTC().Format("Jan 2 15:04 ")+m.Body)
	return true, nil
}

// Watch is called before anything is sent.
func (s *sink) Watch(heard func(key string, err error)) { s.heard = heard }

func (s *sink) setDeaf(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = deaf
}

// take returns what was told since it was last called.
func (s *sink) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.messages
	s.messages = nil
	return got
}

// house is an installation with a database and one target.
type house struct {
	t    *testing.T
	dir  string
	sink *sink
	log  logged
	stop func()
}

// logged keeps what the daemon logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newHouse(t *testing.T, more string) *house {
	t.Helper()
	return &house{t: t, dir: apptest.Make(t, more), sink: &sink{heard: func(string, error) {}}}
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) move(from, to string) {
	h.t.Helper()
	if err := os.Rename(h.path(from), h.path(to)); err != nil {
		h.t.Fatal(err)
	}
}

// open opens the installation as the daemon does.
func (h *house) open() *app.App {
	h.t.Helper()
	cfg, err := config.Load(h.path("config.toml"))
	if err != nil {
		h.t.Fatal(err)
	}
	a, err := app.Open(h.t.Context(), cfg, app.Options{Version: "test", Host: "dalidou",
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(h.t.Output(), &h.log), nil))})
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// start starts the daemon, whose messages go to the sink.
func (h *house) start(reload chan os.Signal) {
	h.t.Helper()
	a := h.open()
	d := newDaemon(a)
	d.lookEvery = 20 * time.Minute // a minute makes days long
	d.tellers = func(*config.Config) (notifier, error) { return h.sink, nil }
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx, reload) }()
	h.stop = func() {
		h.t.Helper()
		cancel()
		if err := errors.Join(<-done, a.Close()); err != nil {
			h.t.Error(err)
		}
	}
}

// until lets time pass to an hour and minute of a day of January 2000.
func until(day, hour, minute int) {
	time.Sleep(time.Until(time.Date(2000, 1, day, hour, minute, 30, 0, time.UTC)))
	synctest.Wait()
}

// expect compares what was told with what should have been: for each message
// the parts that it must have.
func (h *house) expect(when string, want ...string) {
	h.t.Helper()
	got := h.sink.take()
	if len(got) != len(want) {
		h.t.Errorf("%s: %d messages, want %d:\n%s", when, len(got), len(want), strings.Join(got, "\n--\n"))
		return
	}
	for i := range got {
		for part := range strings.SplitSeq(want[i], "|") {
			if !strings.Contains(got[i], part) {
				h.t.Errorf("%s: message %d lacks %q:\n%s", when, i+1, part, got[i])
			}
		}
	}
}

// asleep is a target that nobody answers for.
const asleep = `
[[offsite]]
name = "laptop"
hosts = ["127.0.0.1"]
port = 1
user = "nobody"
identity_file = "/dev/null"
known_hosts = "/dev/null"
path = "/vault"
max_age = "4d"
retry_every = "2h"`

// Failures of every sort over some days, and each message that they are worth.
func TestScriptedDays(t *testing.T) {
	t.Parallel()
	h := newHouse(t, asleep)
	key, known := h.path("key"), h.path("known_hosts")
	if _, err := crypt.GenerateSSHKey(key, "test"); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	h.write("known_hosts", "[127.0.0.1]:1 "+string(public))
	text, err := os.ReadFile(h.path("config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("config.toml", strings.NewReplacer(`identity_file = "/dev/null"`, `identity_file = "`+key+`"`,
		`known_hosts = "/dev/null"`, `known_hosts = "`+known+`"`).Replace(string(text)))
	synctest.Test(t, func(t *testing.T) {
		h.t = t
		reload := make(chan os.Signal)
		h.start(nil)
		until(1, 5, 0)
		h.expect("an installation whose first slot has not come")
		until(2, 5, 0)
		h.expect("a day on which all went well, but for a laptop that sleeps")

		h.move("data", "data.away") // its disk is gone
		until(2, 6, 10)
		h.expect("a take that failed and is retried")
		until(2, 6, 30)
		h.expect("its retries ran out", "Jan 2 06:2|CRITICAL snapshot|a.db")
		until(2, 23, 0)
		h.expect("the same failure; prune is overdue for the same cause")
		h.stop()
		h.start(reload)
		until(3, 6, 0)
		h.expect("a restart during an alarm")
		until(4, 5, 0)
		h.expect("a second day without snapshots", "Jan 3 06:2|STILL CRITICAL snapshot")
		h.move("data.away", "data")
		until(4, 7, 0)
		h.expect("the next take goes well", "Jan 4 06:0|RECOVERED snapshot")
		until(4, 23, 59)
		h.expect("a laptop that sleeps, to the last minute of its max_age")
		until(5, 2, 0)
		h.expect("a laptop that sleeps, past its max_age", "Jan 5 0|CRITICAL offsite:laptop|for more than 4 days")
		h.write("config.toml", strings.ReplaceAll(string(text), asleep, ""))
		reload <- os.Interrupt
		until(5, 2, 10)
		h.expect("it is taken out of the configuration", "NO LONGER WATCHED offsite:laptop")

		h.move("vault", "vault.away")
		until(5, 8, 0)
		h.expect("a disk that is not mounted is refused at once", "Jan 5 0|CRITICAL offsite:disk|is its disk mounted")
		h.move("vault.away", "vault")
		until(5, 12, 0)
		h.expect("the disk is back", "RECOVERED offsite:disk")
		h.stop()
	})
}

func TestNobodyCanBeTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	synctest.Test(t, func(t *testing.T) {
		h.t = t
		h.start(nil)
		until(2, 5, 0)
		h.sink.setDeaf(true)
		h.move("data", "data.away")
		until(2, 12, 0)
		h.expect("nobody hears it")
		h.stop()
		h.start(nil)
		until(2, 15, 0)
		h.expect("nobody hears it after a restart either")
		h.sink.setDeaf(false)
		until(2, 17, 0)
		h.expect("somebody listens again", "Jan 2 1|CRITICAL snapshot|WARNING notify", "Jan 2 1|RECOVERED notify")
		h.stop()
	})
}

func TestReload(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	good, err := os.ReadFile(h.path("config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h.t = t
		reload := make(chan os.Signal)
		h.start(reload)
		until(1, 7, 0)
		refuse := func(text, why string) {
			t.Helper()
			h.write("config.toml", text)
			reload <- os.Interrupt
			synctest.Wait()
			time.Sleep(time.Second)
			h.expect("a bad configuration", "CRITICAL config|the old one stays|"+why)
			h.write("config.toml", string(good))
			reload <- os.Interrupt
			time.Sleep(time.Second)
			h.expect("a good one", "RECOVERED config")
			time.Sleep(time.Hour) // for the bound on messages
		}
		refuse(strings.Replace(string(good), "min_free", "min_fre", 1), "min_fre")
		refuse(strings.Replace(string(good), "/backups", "/backups2", 1), "backup.dir cannot change|systemctl restart")
		refuse(strings.Replace(string(good), `scrub = ""`, `scrub = "61 * * * *"`, 1), "scrub")

		h.write("config.toml", strings.Replace(string(good), `scrub = ""`, `scrub = ""
daily = "30 7 * * *"`, 1))
		reload <- os.Interrupt
		until(2, 7, 0)
		before := h.snapshots()
		until(2, 7, 31)
		if after := h.snapshots(); len(before) != 1 || len(after) != 2 {
			t.Errorf("the new schedule: %v at 7 and %v after 7:30", before, after)
		}
		h.expect("nothing else")
		h.stop()
	})
}

func (h *house) snapshots() []string {
	h.t.Helper()
	names, err := filepath.Glob(h.path("backups/snapshots/*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}
