// Package daemon is the daemon's life: it wires the schedule to the jobs of
// package app, reloads, serves HTTP, and tells people of alarms.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Undoing what Run acquired must not hang on a single step.
const (
	undoTimeout      = 10 * time.Second
	heartbeatTimeout = 5 * time.Second
)

// daemon is a running App and what runs beside its jobs.
type daemon struct {
	tellers    func(*config.Config) (notifier, error) // who is told of alarms
	lookEvery  time.Duration                          // how often alarms are looked for when nothing happens
	current    atomic.Pointer[app.App]                // a reload puts another in its place
	scheduler  *scheduler.Scheduler
	life       *life
	alarmLoop  *alarmLoop
	heartbeats atomic.Pointer[notify.Heartbeats]
}

func (d *daemon) app() *app.App { return d.current.Load() }

// Run is the daemon: it makes sure that everything it needs is there, says
// READY, and runs the schedule until ctx is done. Then the running job reaches
// a safe point or is abandoned at shutdown_timeout; either way nothing
// half-made is visible. Each signal on reload makes it read its configuration
// again. What makes it end before READY is a *NotStarted.
func Run(ctx context.Context, a *app.App, reload <-chan os.Signal) error {
	return newDaemon(a).run(ctx, reload)
}

// NotStarted is what kept a daemon from starting.
type NotStarted struct{ Err error }

// Error says why, in the words of the cause.
func (n *NotStarted) Error() string { return n.Err.Error() }

// Unwrap returns the cause.
func (n *NotStarted) Unwrap() error { return n.Err }

func newDaemon(a *app.App) *daemon {
	a.Options.Daemon = true
	a.KeepLog()
	d := &daemon{tellers: openOutbox, lookEvery: time.Minute}
	d.current.Store(a)
	d.life = newLife(d.app)
	return d
}

func (d *daemon) run(ctx context.Context, reload <-chan os.Signal) (err error) {
	a := d.app()
	started := false
	defer func() {
		if err != nil && !started {
			err = &NotStarted{err}
		}
	}()
	var undo undo
	defer func() { err = errors.Join(err, undo.run()) }()
	a.Config = app.WithCredentials(a.Config, os.Getenv("CREDENTIALS_DIRECTORY"))
	release, err := a.HoldLife(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := ready(ctx, a); err != nil {
		return err
	}
	outbox, err := d.tellers(a.Config)
	if err != nil {
		return err
	}
	undo.add("life", undoTimeout, d.life.stopped)
	d.life.change(func(*app.Life) {})
	a.NoteHistoryError(errors.Join(app.KeepAddresses(a.Config), a.NoteGoodStart(ctx, time.Now()))) // the same disk
	undo.add("history", undoTimeout, recordLife(ctx, a))
	list, err := jobs(a, d.trigger, d.say)
	if err != nil {
		return err
	}
	d.alarmLoop = newAlarmLoop(ctx, d.app, d.lookEvery)
	d.scheduler, err = scheduler.New(a.History(), list, scheduler.Options{
		Report: d.report, Beat: d.beat, ShutdownTimeout: a.Config.Schedule.ShutdownTimeout.Std(),
	})
	if err != nil {
		return err
	}
	undo.add("heartbeats", undoTimeout, d.stopHeartbeats)
	d.tellThrough(a, outbox)
	undo.add("alarms", undoTimeout, background(func(ctx context.Context) { d.alarmLoop.run(ctx) }))
	undo.add("http", httpStopTimeout, d.serveHTTP(ctx))
	for _, t := range a.Config.Offsite {
		d.trigger(app.SyncJob(t.Name))
	}
	next := nextLine(ctx, a)
	started = true
	tell(a, sd.SdNotifyReady+"\nSTATUS="+next)
	a.Options.Log.Info("ready", "version", a.Options.Version, "config", a.Config.Path, "next", next)
	undo.add("reload", undoTimeout, background(func(ctx context.Context) { d.listen(ctx, reload) }))
	// stopping is said as soon as the signal is here: jobs may take a while.
	stopping := context.AfterFunc(ctx, func() { tell(a, sd.SdNotifyStopping) })
	defer stopping()
	err = d.scheduler.Run(ctx)
	if abandoned, ok := errors.AsType[*scheduler.StillRunning](err); ok {
		// What was asked for has happened; nothing half-made is visible.
		a.Options.Log.Warn("jobs were abandoned", "error", abandoned)
		err = nil
	}
	a.Options.Log.Info("stopped")
	return err
}

// background starts work beside the jobs and returns what ends it.
func background(work func(context.Context)) func(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(ctx)
	}()
	return func(patience context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-patience.Done():
			return patience.Err()
		}
	}
}

// listen reloads at each signal.
func (d *daemon) listen(ctx context.Context, reload <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			d.reload(ctx)
		}
	}
}

// recordLife records the daemon's own life, so that the next one can tell an end that
// nobody wanted, and returns what records an orderly end.
func recordLife(ctx context.Context, a *app.App) func(context.Context) error {
	run := history.Run{Job: app.DaemonJob, StartedAt: time.Now()}
	var err error
	run.ID, err = a.History().Begin(ctx, run)
	a.NoteHistoryError(err)
	return func(ctx context.Context) error {
		if run.ID == 0 {
			return nil
		}
		run.FinishedAt, run.Outcome = time.Now(), history.OK
		err := a.History().Finish(ctx, run)
		if errors.Is(err, history.ErrNoRun) {
			return nil // the history was started over since
		}
		return err
	}
}

// say sends a message that is no alarm.
func (d *daemon) say(ctx context.Context, m notify.Message) error {
	return d.alarmLoop.say(ctx, time.Now(), m)
}

// trigger starts another job by name.
func (d *daemon) trigger(name string) {
	if err := d.scheduler.TriggerNow(name); err != nil {
		d.app().Options.Log.Error("a follow-up could not be started", "job", name, "error", err)
	}
}

// tellThrough tells people and heartbeats through the addresses of an App's
// configuration from now on, and lets what the ones before had to say arrive.
func (d *daemon) tellThrough(a *app.App, outbox notifier) {
	outbox.Watch(d.life.heard)
	d.alarmLoop.use(outbox)
	next := notify.StartHeartbeats(a.Config.Notify.Heartbeats, d.life.heard)
	before := d.heartbeats.Swap(next)
	a.SetPulse(next.Beat)
	d.life.addresses(append(outbox.Keys(), next.Keys()...))
	if before != nil {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
			defer cancel()
			_ = before.Stop(ctx) // what did not arrive was logged
		}()
	}
}

// stopHeartbeats lets what was said last arrive. An address that hangs makes the
// stop no less clean.
func (d *daemon) stopHeartbeats(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	if err := d.heartbeats.Load().Stop(ctx); err != nil {
		d.app().Options.Log.Warn("some heartbeats did not arrive", "error", err)
	}
	return nil
}

// ready proves before the first slot what would otherwise fail in the night:
// the store, the history, the keys.
func ready(ctx context.Context, a *app.App) error {
	if err := a.Config.ValidateRun(app.CheckCron); err != nil {
		return err
	}
	lock, err := a.LockNow(ctx, "starting the daemon")
	switch {
	case err == nil:
		a.Sweep()
		lock.Unlock()
	case failure.KindOf(err) != failure.Locked && failure.KindOf(err) != failure.Refused:
		// A command at work is no reason not to start, nor is a disk that is not
		// mounted: somebody must tell.
		return err
	}
	if a.Config.Backup.ChromaMethod == chroma.MethodAPI {
		if err := app.ProveAPI(a.Config.Backup.Dir); err != nil {
			return err
		}
	}
	if len(a.Config.Offsite) > 0 {
		recipients, err := crypt.LoadRecipients(a.Config.Encryption.Recipients, a.Config.Encryption.RecipientsFile)
		if err != nil {
			return err
		}
		for _, warning := range recipients.Warnings() {
			a.Options.Log.Warn(warning)
		}
		if _, err := a.Signer(); err != nil {
			return err
		}
	}
	for _, warning := range a.Config.Warnings(app.LongestGap) {
		a.Options.Log.Warn(warning)
	}
	interrupted, err := a.History().CloseInterrupted(ctx, time.Now())
	a.NoteHistoryError(err)
	for _, run := range interrupted {
		a.Options.Log.Warn("a run was cut short when its process ended", "job", run.Job, "started", run.StartedAt)
	}
	return nil
}

// report logs what the scheduler tells. Jobs' errors are logged here and
// nowhere else.
func (d *daemon) report(e scheduler.Event) {
	log := d.app().Options.Log.With("job", e.Job)
	d.life.job(e)
	switch e.Kind {
	case scheduler.Started:
		log.Log(context.Background(), quiet(e.Job), "started", "slot", e.Slot.At, "attempt", e.Slot.Attempt)
	case scheduler.Finished:
		switch {
		case e.Err == nil:
			log.Log(context.Background(), quiet(e.Job), "done", "duration", e.Duration.Round(time.Millisecond))
		case errors.Is(e.Err, scheduler.ErrSkipped), e.Outcome == scheduler.Interrupted:
			log.Info(string(e.Outcome), "error", e.Err)
		default:
			log.Error("failed", "error", e.Err, "outcome", e.Outcome)
			for _, leg := range legsOf(e.Job) {
				d.app().JobFailed(leg, e.Err, e.Duration)
			}
		}
		d.life.good(alarmStuck(e.Job))
		d.alarmLoop.wakeUp()
	case scheduler.Retrying:
		log.Warn("failed, and is tried again", "error", e.Err, "at", e.RetryAt)
	case scheduler.Stuck:
		log.Error("was cancelled and does not return; it is not started again until it does")
		d.life.bad(alarmStuck(e.Job), health.Trouble{Message: "it ran too long, was cancelled and does not return",
			Hint: "systemctl restart atobackupd"})
		d.alarmLoop.wakeUp()
	case scheduler.Missed:
		log.Warn("slots passed while nobody looked", "slots", len(e.Slots), "oldest", e.Slots[0])
	case scheduler.Covered:
		log.Info("served by another job", "by", e.By, "slot", e.Slot.At)
	case scheduler.StoreError:
		d.app().NoteHistoryError(fmt.Errorf("the schedule: %w", e.Err)) // it comes with every pass
		d.alarmLoop.wakeUp()
	case scheduler.ClockBack:
		log.Warn("the clock was set back by more than a day: slots count from now")
	}
}

// beat tells systemd that the loop makes progress and what comes next.
func (d *daemon) beat() {
	d.life.beat()
	tell(d.app(), sd.SdNotifyWatchdog+"\nSTATUS="+statusLine(d.scheduler.Status()))
}

// alarmStuck names the alarm of a job that does not return.
func alarmStuck(job string) string { return "job:" + job }

// tell sends a notification to systemd, if systemd started us.
func tell(a *app.App, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		a.Options.Log.Warn("systemd could not be notified", "error", err)
	}
}

// statusLine says in one line what runs now and what comes next.
func statusLine(jobs []scheduler.JobStatus) string {
	running := ""
	var next scheduler.JobStatus
	for _, j := range jobs {
		if j.Running {
			running += j.Name + " runs since " + j.Since.Format("15:04:05") + "; "
		}
		if j.Expr != "" && !isInternal(j.Name) && !j.Next.IsZero() && (next.Next.IsZero() || j.Next.Before(next.Next)) {
			next = j
		}
	}
	if next.Next.IsZero() {
		return running + "nothing is scheduled"
	}
	return running + "next: " + next.Name + " at " + next.Next.Format("2006-01-02 15:04 MST")
}

// nextLine is statusLine before the schedule runs.
func nextLine(ctx context.Context, a *app.App) string {
	slots, err := a.NextSlots(ctx, time.Now())
	if err != nil {
		return ""
	}
	var jobs []scheduler.JobStatus
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		jobs = append(jobs, scheduler.JobStatus{Name: name, Expr: name, Next: slots[name]})
	}
	return statusLine(jobs)
}

// isInternal tells the jobs that are no business of the schedule's reader.
func isInternal(name string) bool { return name == thawJob || strings.HasPrefix(name, app.SyncJob("")) }

// quiet is the level of what is worth no line: a sync looks every quarter of an
// hour whether there is something to send, and says itself what it sent.
func quiet(job string) slog.Level {
	if isInternal(job) {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
