package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
)

const (
	// messagesAnHour bounds how often people are told anything. What comes
	// beyond it waits and is told in one message.
	messagesAnHour = 6
)

// notifier is how people are told: a notify.Outbox.
type notifier interface {
	Keys() []string // of the addresses; none: only the log is told
	Watch(heard func(key string, err error))
	Send(ctx context.Context, now time.Time, m notify.Message) (told bool, err error)
	Retry(ctx context.Context, now time.Time) error
}

// alarmLoop raises and ends alarms and tells people of them. It works beside the
// jobs: however long telling takes, no backup waits for it.
type alarmLoop struct {
	app   func() *app.App // the present one: a reload puts another in its place
	log   *slog.Logger
	wake  chan struct{} // holds one token: look now
	every time.Duration // how often to look when nothing happens

	mu      sync.Mutex
	outbox  notifier
	sending sync.Mutex // an outbox is for one sender at a time

	// For the goroutine that looks, alone.
	alarms   health.Alarms
	renewals int64       // how often the history had been renewed when their IDs were given
	sent     []time.Time // the messages of the last hour
	failed   int         // vain attempts in a row
	retryAt  time.Time
}

// newAlarmLoop takes over the alarms that the process before left.
func newAlarmLoop(ctx context.Context, app func() *app.App, every time.Duration) *alarmLoop {
	a := app()
	w := &alarmLoop{app: app, log: a.Options.Log, wake: make(chan struct{}, 1), every: every, outbox: &notify.Outbox{}}
	var err error
	w.alarms.Open, err = a.History().OpenAlarms(ctx)
	a.NoteHistoryError(err)
	w.alarms.Over, err = a.History().UntoldRecoveries(ctx)
	a.NoteHistoryError(err)
	return w
}

// openOutbox reads the addresses of the configuration.
func openOutbox(c *config.Config) (notifier, error) { return app.OutboxFor(c) }

// use sends to the addresses of o from now on.
func (w *alarmLoop) use(o notifier) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outbox = o
}

// present returns the outbox in force.
func (w *alarmLoop) present() notifier {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outbox
}

// say sends one message that is no alarm, and reports whether somebody took it.
func (w *alarmLoop) say(ctx context.Context, now time.Time, m notify.Message) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	outbox := w.present()
	if len(outbox.Keys()) == 0 {
		w.log.Info(m.Title, "text", m.Body)
		return nil
	}
	told, err := outbox.Send(ctx, now, m)
	if told {
		return nil // Watch heard of the addresses that did not take it
	}
	return err
}

// wakeUp makes it look soon. It never blocks.
func (w *alarmLoop) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run looks every so often, and when poked, until ctx is done.
func (w *alarmLoop) run(ctx context.Context) {
	timer := time.NewTicker(w.every)
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

// pass looks at everything once: has it judged, writes down, tells.
func (w *alarmLoop) pass(ctx context.Context, now time.Time) {
	a := w.app()
	now = now.Round(0) // alarms outlive the process, so only the wall clock counts
	report := a.Report(ctx, now)
	if renewed := a.History().Renewals(); renewed != w.renewals {
		w.renewals = renewed // what is open is raised anew there
		for _, alarms := range [][]health.Alarm{w.alarms.Open, w.alarms.Over} {
			for i := range alarms {
				alarms[i].ID = 0
			}
		}
	}
	next, c := w.alarms.Update(report, now)
	if ctx.Err() != nil {
		return // what was read is not to be trusted
	}
	w.alarms = next
	w.write(ctx, a, c, now)
	w.tell(ctx, a, now)
}

// write puts changes into the history and the log. What cannot be written is
// kept in the ledger and tried again with the next look.
func (w *alarmLoop) write(ctx context.Context, a *app.App, c health.Changes, now time.Time) {
	for _, alarm := range c.Fresh {
		w.log.Error("alarm", "leg", alarm.Leg, "level", alarm.Level, "message", alarm.Message)
	}
	for _, alarm := range c.Raised {
		saved, _, err := a.History().Raise(ctx, alarm)
		if a.NoteHistoryError(err); err != nil {
			continue
		}
		for i := range w.alarms.Open {
			if w.alarms.Open[i].Leg == alarm.Leg {
				w.alarms.Open[i].ID = saved.ID
			}
		}
	}
	for _, alarm := range c.Resolved {
		w.log.Info("alarm is over", "leg", alarm.Leg, "since", alarm.Since)
		_, _, err := a.History().Resolve(ctx, alarm.Leg, now)
		a.NoteHistoryError(err)
	}
}

// tell sends the news, if there is any and this is the time.
func (w *alarmLoop) tell(ctx context.Context, a *app.App, now time.Time) {
	w.sending.Lock()
	defer w.sending.Unlock()
	outbox := w.present()
	_ = outbox.Retry(ctx, now) // Watch hears of each address
	n := w.alarms.Pending(now)
	if n.Empty() || !w.allowed(now) {
		return
	}
	if len(outbox.Keys()) > 0 {
		title, body := n.Message(a.Options.Host)
		// Watch hears of each address that did not take it.
		if told, _ := outbox.Send(ctx, now, notify.Message{Title: title, Body: body, Level: levelOf(n)}); !told {
			w.failed++
			w.retryAt = now.Add(notify.Pause(w.failed))
			return
		}
	} else {
		for _, alarm := range n.Still {
			w.log.Error("still an alarm", "leg", alarm.Leg, "since", alarm.Since, "message", alarm.Message)
		}
	}
	w.failed, w.retryAt = 0, time.Time{}
	w.sent = append(w.sent, now)
	w.alarms = w.alarms.MarkSent(n, now)
	for _, alarm := range slices.Concat(n.Bad, n.Still, n.Recovered) {
		if alarm.ID != 0 {
			a.NoteHistoryError(a.History().Notified(ctx, alarm.ID, now))
		}
	}
}

// levelOf returns the gravest level in the news.
func levelOf(n health.Notice) notify.Level {
	bad := append(slices.Clone(n.Bad), n.Still...)
	switch {
	case len(bad) == 0:
		return notify.Recovered
	case slices.ContainsFunc(bad, func(a health.Alarm) bool { return a.Level == health.LevelCritical }):
		return notify.Critical
	}
	return notify.Warning
}

// allowed reports whether a message may be sent at now: not during the pause
// after a vain attempt, and not when there were too many.
func (w *alarmLoop) allowed(now time.Time) bool {
	w.sent = slices.DeleteFunc(w.sent, func(t time.Time) bool { return now.Sub(t) >= time.Hour || now.Before(t) })
	waiting := now.Before(w.retryAt) && w.retryAt.Sub(now) <= notify.Pause(w.failed)
	return !waiting && len(w.sent) < messagesAnHour
}

// NoteEnd records that the daemon's process has ended otherwise than it should,
// and tells people: a daemon that does not come back could not. One whose start was
// refused has said so itself. result, code and status are what systemd hands to
// ExecStopPost.
func NoteEnd(ctx context.Context, a *app.App, result, code, status string) error {
	return newDaemon(a).noteEnd(ctx, result, code, status)
}

func (d *daemon) noteEnd(ctx context.Context, result, code, status string) error {
	a := d.app()
	now := time.Now()
	refused, err := a.RecordRefusedStart(ctx, now)
	if err != nil {
		return err
	}
	if !refused {
		why := fmt.Sprintf("the daemon ended by itself: %s (%s %s): journalctl -u atobackupd", result, code, status)
		run := history.Run{Job: app.DaemonJob, StartedAt: now, FinishedAt: now, Outcome: history.Failed, Error: why}
		if run.ID, err = a.History().Begin(ctx, run); err != nil {
			return err
		}
		if err := a.History().Finish(ctx, run); err != nil {
			return err
		}
	}
	a.Config = app.WithCredentials(a.Config, os.Getenv("CREDENTIALS_DIRECTORY"))
	outbox, err := d.tellers(a.Config)
	if err != nil {
		return err
	}
	w := newAlarmLoop(ctx, d.app, d.lookEvery)
	w.use(outbox)
	w.pass(ctx, now)
	return nil
}
