package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
)

const (
	// messagesAnHour bounds how often people are told anything. What comes
	// beyond it waits and is told in one message.
	messagesAnHour = 6
	// settled is how long a daemon must have lived for the failure of the one
	// before it to be over.
	settled = time.Hour
)

// Names of alarms that are about no leg.
const (
	alarmConfig  = "config"
	alarmHistory = "history"
	alarmDaemon  = "daemon"
)

// teller is how people are told: a notify.Outbox.
type teller interface {
	Len() int // of the addresses; 0: only the log is told
	Send(ctx context.Context, now time.Time, title, body string) (told bool, err error)
	Retry(ctx context.Context, now time.Time) error
}

// watch raises and ends alarms and tells people of them. It works beside the
// jobs: however long telling takes, no backup waits for it.
type watch struct {
	app  func() *App // the present one: a reload puts another in its place
	log  *slog.Logger
	wake chan struct{} // holds one token: look now

	mu     sync.Mutex
	states map[string]verdict // what is bad besides the legs
	outbox teller

	// For the goroutine that looks, alone.
	ledger  ledger
	sent    []time.Time // the messages of the last hour
	failed  int         // vain attempts in a row
	retryAt time.Time
}

// newWatch takes over the alarms that the process before left.
func newWatch(ctx context.Context, app func() *App) *watch {
	a := app()
	w := &watch{app: app, log: a.Options.Log, wake: make(chan struct{}, 1), states: make(map[string]verdict), outbox: &notify.Outbox{}}
	var err error
	w.ledger.open, err = a.history.OpenAlarms(ctx)
	a.record(err)
	w.ledger.over, err = a.history.UntoldRecoveries(ctx)
	a.record(err)
	return w
}

// outboxFor reads the addresses of the configuration.
func outboxFor(c *config.Config) (teller, error) {
	addresses := slices.Clone(c.Notify.URLs)
	if c.Notify.URLsFile != "" {
		more, err := notify.ReadFile(c.Notify.URLsFile)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, more...)
	}
	return notify.Parse(addresses)
}

// use sends to the addresses of o from now on.
func (w *watch) use(o teller) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outbox = o
}

// bad says that something besides the legs is bad, and good that it is not.
func (w *watch) bad(name, message string) {
	w.mu.Lock()
	w.states[name] = verdict{name, LevelCritical, message}
	w.mu.Unlock()
	w.poke()
}

func (w *watch) good(name string) {
	w.mu.Lock()
	_, was := w.states[name]
	delete(w.states, name)
	w.mu.Unlock()
	if was {
		w.poke()
	}
}

// poke makes it look soon. It never blocks.
func (w *watch) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run looks every so often, and when poked, until ctx is done.
func (w *watch) run(ctx context.Context) {
	timer := time.NewTicker(w.app().process.lookEvery)
	defer timer.Stop()
	for {
		w.pass(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// pass looks at everything once: judges, writes down, tells.
func (w *watch) pass(ctx context.Context, now time.Time) {
	a := w.app()
	now = now.Round(0) // alarms outlive the process, so only the wall clock counts
	next, c := w.ledger.turn(w.verdicts(ctx, a, now), now)
	if ctx.Err() != nil {
		return // what was read is not to be trusted
	}
	w.ledger = next
	w.write(ctx, a, c, now)
	w.tell(ctx, a, now)
}

// verdicts gives what is bad at now.
func (w *watch) verdicts(ctx context.Context, a *App, now time.Time) []verdict {
	var bad []verdict
	for _, f := range a.facts(ctx, now, w.ledger.open) {
		if j := judge(f, now); j.level != LevelOK && !j.quiet {
			bad = append(bad, verdict{f.name, j.level, j.message})
		}
	}
	a.process.mu.Lock()
	if err := a.process.historyErr; err != nil {
		bad = append(bad, verdict{alarmHistory, LevelCritical, "what happens is not remembered: " + err.Error()})
	}
	a.process.mu.Unlock()
	if message := a.endedBadly(ctx, now); message != "" {
		bad = append(bad, verdict{alarmDaemon, LevelCritical, message})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.states)) {
		bad = append(bad, w.states[name])
	}
	return bad
}

// write puts changes into the history and the log. What cannot be written is
// kept in the ledger and tried again with the next look.
func (w *watch) write(ctx context.Context, a *App, c changes, now time.Time) {
	for _, alarm := range c.fresh {
		w.log.Error("alarm", "leg", alarm.Leg, "level", alarm.Level, "message", alarm.Message)
	}
	for _, alarm := range c.raised {
		saved, _, err := a.history.Raise(ctx, alarm.Leg, alarm.Level, alarm.Message, alarm.Since)
		if a.record(err); err != nil {
			continue
		}
		for i := range w.ledger.open {
			if w.ledger.open[i].Leg == alarm.Leg {
				w.ledger.open[i].ID = saved.ID
			}
		}
	}
	for _, alarm := range c.resolved {
		w.log.Info("alarm is over", "leg", alarm.Leg, "since", alarm.Since)
		_, _, err := a.history.Resolve(ctx, alarm.Leg, now)
		a.record(err)
	}
}

// tell sends the news, if there is any and this is the time.
func (w *watch) tell(ctx context.Context, a *App, now time.Time) {
	w.mu.Lock()
	outbox := w.outbox
	w.mu.Unlock()
	if err := outbox.Retry(ctx, now); err != nil {
		w.log.Warn("somebody could not be told", "error", err)
	}
	n := w.ledger.due(now)
	if n.empty() || !w.allowed(now) {
		return
	}
	if outbox.Len() > 0 {
		title, body := n.message(a.Options.Host)
		told, err := outbox.Send(ctx, now, title, body)
		if err != nil {
			w.log.Warn("somebody could not be told", "error", err)
		}
		if !told {
			w.failed++
			w.retryAt = now.Add(notify.Pause(w.failed))
			return
		}
	} else {
		for _, alarm := range n.still {
			w.log.Error("still an alarm", "leg", alarm.Leg, "since", alarm.Since, "message", alarm.Message)
		}
	}
	w.failed, w.retryAt = 0, time.Time{}
	w.sent = append(w.sent, now)
	w.ledger = w.ledger.told(n, now)
	for _, alarm := range slices.Concat(n.bad, n.still, n.recovered) {
		if alarm.ID != 0 {
			a.record(a.history.Notified(ctx, alarm.ID, now))
		}
	}
}

// allowed tells whether a message may be sent at now: not during the pause
// after a vain attempt, and not when there were too many.
func (w *watch) allowed(now time.Time) bool {
	w.sent = slices.DeleteFunc(w.sent, func(t time.Time) bool { return now.Sub(t) >= time.Hour || now.Before(t) })
	waiting := now.Before(w.retryAt) && w.retryAt.Sub(now) <= notify.Pause(w.failed)
	return !waiting && len(w.sent) < messagesAnHour
}

// daemonJob is the name under which the daemon's own life is recorded.
const daemonJob = "daemon"

// endedBadly says how the daemon ended before this one, if that was by the
// watchdog or a crash and since then none has lived long enough.
func (a *App) endedBadly(ctx context.Context, now time.Time) string {
	runs, err := a.history.Runs(ctx, daemonJob, time.Time{}, 16)
	a.record(err)
	for _, run := range runs {
		end := run.FinishedAt
		if end.IsZero() {
			end = now
		}
		switch {
		case run.Outcome == history.Failed:
			return run.Error
		case run.Outcome == history.OK, end.Sub(run.StartedAt) >= settled:
			return ""
		}
	}
	return ""
}

// NoteEnd records that the daemon's process has ended otherwise than it should,
// and tells people: a daemon that does not come back could not. result, code
// and status are what systemd gives to ExecStopPost.
func (a *App) NoteEnd(ctx context.Context, result, code, status string) error {
	now := time.Now()
	why := fmt.Sprintf("the daemon ended by itself: %s (%s %s): journalctl -u atobackupd", result, code, status)
	id, err := a.history.Begin(ctx, history.Run{Job: daemonJob, StartedAt: now})
	if err != nil {
		return err
	}
	if err := a.history.Finish(ctx, history.Run{ID: id, FinishedAt: now, Outcome: history.Failed, Error: why}); err != nil {
		return err
	}
	a.Config = withCredentials(a.Config, os.Getenv("CREDENTIALS_DIRECTORY"))
	outbox, err := a.tellers(a.Config)
	if err != nil {
		return err
	}
	w := newWatch(ctx, func() *App { return a })
	w.use(outbox)
	w.pass(ctx, now)
	return nil
}
