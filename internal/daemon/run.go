package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/scheduler"
)

// Run is the daemon: it makes sure that everything it needs is there, says
// READY, and runs the schedule until ctx is done. Then the running job reaches
// a safe point or is abandoned at shutdown_timeout; either way nothing
// half-made is visible.
func (a *App) Run(ctx context.Context) (err error) {
	if err := a.ready(ctx); err != nil {
		return err
	}
	var s *scheduler.Scheduler
	jobs, err := a.jobs(func(name string) {
		if err := s.TriggerNow(name); err != nil {
			a.Options.Log.Error("a follow-up could not be started", "job", name, "error", err)
		}
	})
	if err != nil {
		return err
	}
	s, err = scheduler.New(a.history, jobs, scheduler.Options{
		Report:          a.report,
		Beat:            func() { a.beat(s) },
		ShutdownTimeout: a.Config.Schedule.ShutdownTimeout.Std(),
	})
	if err != nil {
		return err
	}
	for _, t := range a.Config.Offsite {
		if err := s.TriggerNow(syncJob(t.Name)); err != nil {
			return err
		}
	}
	a.tell(sd.SdNotifyReady + "\nSTATUS=" + statusLine(s.Status()))
	a.Options.Log.Info("ready", "version", a.Options.Version, "config", a.Config.Path, "next", statusLine(s.Status()))
	// STOPPING is said as soon as the signal is here: jobs may take a while.
	stopping := context.AfterFunc(ctx, func() { a.tell(sd.SdNotifyStopping) })
	defer stopping()
	err = s.Run(ctx)
	a.Options.Log.Info("stopped")
	return err
}

// ready proves before the first slot what would otherwise fail in the night:
// the store, the history, the keys.
func (a *App) ready(ctx context.Context) error {
	if err := a.Config.ValidateRun(CheckCron); err != nil {
		return err
	}
	lock, err := a.store.Lock(ctx, "starting the daemon", 0, nil)
	switch {
	case err == nil:
		swept, err := a.store.Sweep()
		lock.Unlock()
		if err != nil {
			return err
		}
		for _, name := range swept {
			a.Options.Log.Warn("removed what an interrupted run left in staging", "name", name)
		}
	case failure.KindOf(err) != failure.Locked: // a command at work is no reason not to start
		return err
	}
	if len(a.Config.Offsite) > 0 {
		recipients, err := crypt.LoadRecipients(a.Config.Encryption.Recipients, a.Config.Encryption.RecipientsFile)
		if err != nil {
			return err
		}
		for _, warning := range recipients.Warnings() {
			a.Options.Log.Warn(warning)
		}
		if _, err := a.signer(); err != nil {
			return err
		}
	}
	for _, warning := range a.Config.Warnings() {
		a.Options.Log.Warn(warning)
	}
	interrupted, err := a.history.CloseInterrupted(ctx, time.Now())
	a.record(err)
	for _, run := range interrupted {
		a.Options.Log.Warn("a run was cut short when its process ended", "job", run.Job, "started", run.StartedAt)
	}
	return nil
}

// report logs what the scheduler tells. Jobs' errors are logged here and
// nowhere else.
func (a *App) report(e scheduler.Event) {
	log := a.Options.Log.With("job", e.Job)
	switch e.Kind {
	case scheduler.Started:
		log.Info("started", "slot", e.Slot.At, "attempt", e.Slot.Attempt)
	case scheduler.Finished:
		switch {
		case e.Err == nil:
			log.Info("done", "duration", e.Duration.Round(time.Millisecond))
		case errors.Is(e.Err, scheduler.ErrSkipped), e.Outcome == scheduler.Interrupted:
			log.Info(string(e.Outcome), "error", e.Err)
		default:
			log.Error("failed", "error", e.Err, "outcome", e.Outcome)
		}
	case scheduler.Retrying:
		log.Warn("failed, and is tried again", "error", e.Err, "at", e.RetryAt)
	case scheduler.Stuck:
		log.Error("was cancelled and does not return; it is not started again until it does")
	case scheduler.Missed:
		log.Warn("slots passed while nobody looked", "slots", len(e.Slots), "oldest", e.Slots[0])
	case scheduler.Covered:
		log.Info("served by another job", "by", e.By, "slot", e.Slot.At)
	case scheduler.StoreError:
		log.Error("the schedule cannot be remembered", "error", e.Err)
	case scheduler.ClockBack:
		log.Warn("the clock was set back by more than a day: slots count from now")
	}
}

// beat tells systemd that the loop makes progress and what comes next.
func (a *App) beat(s *scheduler.Scheduler) {
	a.tell(sd.SdNotifyWatchdog + "\nSTATUS=" + statusLine(s.Status()))
}

// tell sends a notification to systemd, if systemd started us.
func (a *App) tell(state string) {
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

// isInternal tells the jobs that are no business of the schedule's reader.
func isInternal(name string) bool { return strings.HasPrefix(name, syncJob("")) }
