package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot"
)

var noon = time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)

func newTestWatch(t *testing.T, h *house) (*alarmLoop, *life) {
	t.Helper()
	a := h.open()
	t.Cleanup(func() { a.Close() })
	w := newAlarmLoop(t.Context(), func() *app.App { return a }, time.Minute)
	w.use(h.sink)
	l := newLife(w.app)
	l.change(func(now *app.Life) { now.Beat = noon })
	return w, l
}

// Something that turns good and bad all the time is told six times an hour.
func TestNoStorm(t *testing.T) {
	h := newHouse(t, "")
	w, l := newTestWatch(t, h)
	now := noon
	for range 60 {
		l.bad("config", health.Trouble{Message: "refused"})
		w.pass(t.Context(), now)
		now = now.Add(30 * time.Second)
		l.good("config")
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
	w, l := newTestWatch(t, h)
	for _, name := range []string{"config", "job:daily", "job:weekly", "job:prune"} {
		l.bad(name, health.Trouble{Message: "bad"})
	}
	w.pass(t.Context(), noon)
	if got := h.sink.take(); len(got) != 1 || strings.Count(got[0], "CRITICAL") != 4 {
		t.Errorf("%q", got)
	}
	again, l := newTestWatch(t, h)
	for _, name := range []string{"config", "job:daily", "job:weekly"} {
		l.bad(name, health.Trouble{Message: "bad"})
	}
	again.pass(t.Context(), noon.Add(time.Minute))
	if got := h.sink.take(); len(got) != 1 || !strings.Contains(got[0], "RECOVERED job:prune") ||
		strings.Contains(got[0], "CRITICAL") {
		t.Errorf("after a restart: %q", got)
	}
}

// A disk that takes no history is told of, and so is what it hides.
func TestHistoryCannotBeWritten(t *testing.T) {
	h := newHouse(t, "")
	w, _ := newTestWatch(t, h)
	a := w.app()
	if err := a.History().Close(); err != nil {
		t.Fatal(err)
	}
	h.move("data/a.db", "data/gone.db")
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err == nil {
		t.Fatal("a snapshot of nothing")
	}
	now := time.Now()
	for i := range 5 {
		w.pass(t.Context(), now.Add(time.Duration(i)*time.Minute))
	}
	got := h.sink.take()
	if len(got) != 1 || !strings.Contains(got[0], "CRITICAL snapshot: ") ||
		!strings.Contains(got[0], "CRITICAL history") {
		t.Errorf("%q", got)
	}
}

// The daemon that follows one that was killed tells of it, until it has lived
// for an hour itself.
func TestEndedBadly(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	d := newDaemon(a)
	d.tellers = func(*config.Config) (notifier, error) { return h.sink, nil }
	if err := d.noteEnd(t.Context(), "watchdog", "killed", "ABRT"); err != nil {
		t.Fatal(err)
	}
	if got := h.sink.take(); len(got) != 1 || !strings.Contains(got[0], "CRITICAL daemon") ||
		!strings.Contains(got[0], "watchdog (killed ABRT)") {
		t.Fatalf("%q", got)
	}
	if err := d.noteEnd(t.Context(), "exit-code", "exited", "1"); err != nil {
		t.Fatal(err)
	}
	if got := h.sink.take(); len(got) != 0 {
		t.Fatalf("each vain start is told: %q", got)
	}
	recordLife(t.Context(), a)
	now := time.Now()
	crash := func(now time.Time) *health.Trouble {
		facts, _ := a.Facts(t.Context(), now)
		return facts.Daemon.Crash
	}
	if crash(now.Add(59*time.Minute)) == nil {
		t.Error("over before it has lived for an hour")
	}
	if why := crash(now.Add(61 * time.Minute)); why != nil {
		t.Errorf("not over after an hour: %v", why)
	}
}

// A start that was refused has been told by itself: systemd's word about its end adds
// nothing, and the next good start says that it is over.
func TestRefusedStartIsToldOnce(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Config.Notify.Command = []string{"sh", "-c", "cat >>" + filepath.Join(h.dir, "told")}
	if err := app.KeepAddresses(a.Config); err != nil {
		t.Fatal(err)
	}
	refusal := &failure.Error{Op: "recipients", Err: errors.New("cannot be read"), Hint: "put them back"}
	if err := app.NoteRefusedStart(t.Context(), a.Config.StateDir, "vm", refusal, time.Now()); err != nil {
		t.Fatal(err)
	}
	told, err := os.ReadFile(filepath.Join(h.dir, "told"))
	if err != nil || strings.Count(string(told), "recipients: cannot be read") != 1 ||
		!strings.Contains(string(told), "put them back") {
		t.Fatalf("told %q, %v", told, err)
	}
	d := newDaemon(a)
	d.tellers = func(*config.Config) (notifier, error) { return h.sink, nil }
	if err := d.noteEnd(t.Context(), "exit-code", "exited", "1"); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(h.sink.take(), "\n")
	if strings.Contains(got, "recipients") || strings.Contains(got, "ended by itself") {
		t.Errorf("told again: %q", got)
	}
	now := time.Now()
	if err := a.NoteGoodStart(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	w := newAlarmLoop(t.Context(), d.app, d.lookEvery)
	w.use(h.sink)
	w.pass(t.Context(), now)
	if got := h.sink.take(); len(got) != 1 || !strings.Contains(got[0], "RECOVERED config") {
		t.Errorf("after a good start: %q", got)
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
	if strings.Join(order, " ") != "third first" || !errors.Is(err, first) ||
		!strings.Contains(err.Error(), "hangs: not done within 10ms") {
		t.Errorf("%q, %v", order, err)
	}
	if err := u.run(); err != nil {
		t.Errorf("undone twice: %v", err)
	}
}
