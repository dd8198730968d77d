package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/scheduler"
)

// runDetail is what a run's record says beyond its columns.
type runDetail struct {
	Failure string    `json:"failure,omitempty"` // what kind of failure, as stateOf names it, or "locked", "usage", …
	Daemon  bool      `json:"daemon,omitempty"`  // the daemon ran it, and not a person
	Full    bool      `json:"full,omitempty"`    // it was to hold Chroma
	RetryAt time.Time `json:"retry_at,omitzero"` // it failed and is started again by itself
	Free    int64     `json:"free,omitempty"`    // bytes on the disk of the snapshots, after a prune
}

func detailOf(run history.Run) (d runDetail) {
	_ = json.Unmarshal(run.Detail, &d) // none, or a stranger's: then nothing more is known
	return d
}

// process is what lives as long as the process and outlasts a reload: the
// newest run of each leg, for a disk on which no history can be written, and
// who is told of heartbeats.
type process struct {
	mu         sync.Mutex
	runs       map[string]history.Run
	legs       map[string]history.Leg
	historyErr error     // since a run was last recorded whole
	loggedAt   time.Time // when such an error was last logged
	pulse      func(leg string, signal notify.Signal, body string)
	lookEvery  time.Duration // how often alarms are looked for when nothing happens
}

func newProcess() *process {
	return &process{runs: make(map[string]history.Run), legs: make(map[string]history.Leg), lookEvery: time.Minute}
}

// attempt is what a job function's context says about the daemon's run.
type attempt struct {
	slot    scheduler.Slot
	retries int
}

type attemptKey struct{}

func withAttempt(ctx context.Context, slot scheduler.Slot, retries int) context.Context {
	return context.WithValue(ctx, attemptKey{}, attempt{slot, retries})
}

// record notes an error of the history, which stops nothing. A disk that is
// full makes one with every write: it is logged once an hour.
func (a *App) record(err error) {
	p := a.process
	p.mu.Lock()
	defer p.mu.Unlock()
	// A read that went well says nothing about writing, and one that the end of
	// the daemon cut short says nothing at all.
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	p.historyErr = err
	if now := time.Now(); p.loggedAt.IsZero() || now.Sub(p.loggedAt) >= time.Hour {
		p.loggedAt = now
		a.Options.Log.Warn("the history could not be written", "error", err)
	}
}

// servedBy gives the legs that a run for a leg counts for: a full snapshot is a
// snapshot too.
func servedBy(leg string) []string {
	if leg == legFull {
		return []string{legSnapshot, legFull}
	}
	return []string{leg}
}

// runJob records one run of a job around the work itself, and the leg's success
// or failure.
func (a *App) runJob(ctx context.Context, job, leg string, run history.Run, work func(run *history.Run) error) error {
	run.Job, run.StartedAt = job, time.Now()
	detail := runDetail{Full: leg == legFull}
	try, byDaemon := ctx.Value(attemptKey{}).(attempt)
	if detail.Daemon = byDaemon; byDaemon && !try.slot.Triggered {
		run.Slot = try.slot.At
	}
	// The context may be what ends the work; it is recorded all the same.
	recording := context.WithoutCancel(ctx)
	id, err := a.history.Begin(recording, run)
	a.record(err)
	run.ID = id
	a.beatLegs(leg, notify.Start, "")
	workErr := work(&run)
	run.FinishedAt = time.Now()
	run.Outcome, detail.Failure, workErr = outcomeOf(ctx, workErr)
	if workErr != nil {
		run.Error = workErr.Error()
	}
	if byDaemon && run.Outcome == history.Failed && try.slot.Attempt <= try.retries {
		detail.RetryAt = run.FinishedAt.Add(scheduler.RetryPause(try.slot.Attempt))
	}
	if job == "prune" && workErr == nil {
		detail.Free, _ = fsx.Free(a.Config.Backup.Dir) // only the forecast lacks it
	}
	if run.Detail, err = json.Marshal(detail); err != nil {
		return errors.Join(workErr, err)
	}
	a.ended(recording, leg, run, detail)
	return workErr
}

// outcomeOf names how work ended. A cancelled context breaks connections and
// files under the work, whose error then speaks of those.
func outcomeOf(ctx context.Context, err error) (history.Outcome, string, error) {
	kind := failure.KindOf(err)
	switch {
	case err == nil:
		return history.OK, "", nil
	case errors.Is(context.Cause(ctx), scheduler.ErrTimeout):
		return history.TimedOut, "timeout", fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case kind == failure.Interrupted || ctx.Err() != nil:
		return history.Interrupted, "", err
	case kind == failure.Unreachable:
		return history.Skipped, "unreachable", err
	}
	names := map[failure.Kind]string{
		failure.Usage: "usage", failure.Locked: "locked", failure.Config: "config", failure.Invalid: "invalid", failure.Refused: "refused",
	}
	if name, ok := names[kind]; ok {
		return history.Failed, name, err
	}
	return history.Failed, stateOf(err), err
}

// ended records how a run ended, in the history and in this process.
func (a *App) ended(ctx context.Context, leg string, run history.Run, detail runDetail) {
	for _, l := range servedBy(leg) {
		switch run.Outcome {
		case history.OK:
			a.record(a.history.LegSucceeded(ctx, l, run.FinishedAt))
		case history.Interrupted:
		default:
			a.record(a.history.LegFailed(ctx, l, run.FinishedAt, run.Error))
		}
		a.process.remember(l, run)
	}
	switch {
	case run.Outcome == history.OK:
		a.beatLegs(leg, notify.Success, "")
	case conclusive(run) && detail.RetryAt.IsZero():
		a.beatLegs(leg, notify.Fail, run.Error)
	}
	if run.ID == 0 {
		return
	}
	err := a.history.Finish(ctx, run)
	a.record(err)
	if err == nil {
		a.process.mu.Lock()
		a.process.historyErr = nil
		a.process.mu.Unlock()
	}
}

func (p *process) remember(leg string, run history.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs[leg] = run
	l := history.Leg{Name: leg, LastSuccess: p.legs[leg].LastSuccess, LastAttempt: run.FinishedAt, LastError: run.Error}
	if run.Outcome == history.OK {
		l.LastSuccess = run.FinishedAt
	}
	if run.Outcome != history.Interrupted {
		p.legs[leg] = l
	}
}

// beatLegs sends a heartbeat for what a run counts for; only the daemon does.
func (a *App) beatLegs(leg string, signal notify.Signal, body string) {
	a.process.mu.Lock()
	pulse := a.process.pulse
	a.process.mu.Unlock()
	if pulse == nil {
		return
	}
	for _, l := range servedBy(leg) {
		pulse(l, signal, body)
	}
}

// conclusive tells whether a run that failed says something about the leg.
// One that found its target away, was cut short, or was a slip of a person's
// fingers does not; neither does one that found the lock taken, unless it is a
// take that the daemon has tried until its retries ran out.
func conclusive(run history.Run) bool {
	detail := detailOf(run)
	switch {
	case run.Outcome != history.Failed && run.Outcome != history.TimedOut:
		return false
	case detail.Failure == "locked":
		return detail.Daemon && run.Job == "backup"
	}
	return detail.Failure != "usage"
}
