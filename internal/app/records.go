package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/scheduler"
)

// process is what lives as long as the process and outlasts a reload: the
// newest run of each leg, for a disk on which no history can be written, and
// who is told of heartbeats.
type process struct {
	mu         sync.Mutex
	runs       map[string]history.Run
	progress   map[string]*jobProgress // of the jobs that are under way
	legs       map[string]history.Leg
	historyErr error     // since it was last written as it should be
	foreign    bool      // the history that lies there is another backup directory's
	loggedAt   time.Time // when such an error was last logged
	pulse      func(leg string, b notify.Beat)
	runIDs     map[string]string // of each leg's newest run, for its heartbeats
	tail       *logTail          // the newest log lines; nil in a command
	life       *Life             // how the daemon stands that this process is; nil in a command
}

func newProcess() *process {
	return &process{runs: make(map[string]history.Run), legs: make(map[string]history.Leg),
		runIDs: make(map[string]string), progress: make(map[string]*jobProgress)}
}

// NoteHistoryError notes an error of the history, which stops nothing. A disk that is
// full makes one with every write: it is logged once an hour.
func (a *App) NoteHistoryError(err error) {
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

// servedBy returns the legs that a run for a leg counts for: a full snapshot is a
// snapshot too.
func servedBy(leg string) []string {
	switch leg {
	case "":
		return nil
	case health.LegFull:
		return []string{health.LegSnapshot, health.LegFull}
	}
	return []string{leg}
}

// runJob records one run of a job around the work itself, and the leg's success
// or failure. A command's question that could not be asked yet is no run.
func (a *App) runJob(ctx context.Context, job, leg string, started history.Run, work func(run *jobRun) error) error {
	run := jobRun{Run: started, leg: leg}
	run.Job, run.StartedAt = job, time.Now()
	detail := health.RunDetail{Full: leg == health.LegFull}
	// Over HTTP the daemon takes snapshots for people, without a slot.
	detail.Daemon = a.Options.Daemon && (job != "backup" || !run.Slot.IsZero())
	// The context may be what ends the work; it is recorded all the same.
	recording := context.WithoutCancel(ctx)
	id, err := a.history.Begin(recording, run.Run)
	a.NoteHistoryError(err)
	run.ID = id
	beat := notify.Beat{Signal: notify.Start, RunID: newRunID()}
	run.begun = sync.OnceFunc(func() { a.beatLegs(servedBy(leg), beat) })
	stop := a.trackProgress(job, id)
	workErr := work(&run)
	stop()
	if publishes(job) {
		a.notePublished(ctx)
	}
	run.FinishedAt = time.Now()
	run.Outcome, detail.Failure, workErr = outcomeOf(ctx, workErr)
	if workErr != nil {
		run.Error, detail.Hint = workErr.Error(), failure.HintOf(workErr)
	}
	if !detail.Daemon && isQuestion(job, workErr) {
		if id != 0 {
			a.NoteHistoryError(a.history.Forget(recording, run.Run))
		}
		return workErr
	}
	if job == "prune" && workErr == nil {
		detail.Free, _ = fsx.Free(a.Config.Backup.Dir) // only the forecast lacks it
	}
	own := health.DetailOf(run.Run) // what the work itself had to say
	detail.Left, detail.Note, detail.PreRestore = own.Left, own.Note, own.PreRestore
	if run.Detail, err = json.Marshal(detail); err != nil {
		return errors.Join(workErr, err)
	}
	a.ended(recording, run.leg, run.Run, detail)
	a.beatEnd(run.leg, beat.RunID, run.Run, detail)
	return workErr
}

// publishes reports whether a job may publish snapshots: a take, a restore and a live
// drill do, and a prune adopts those of AtoCore.
func publishes(job string) bool {
	return slices.Contains([]string{"backup", "restore", "drill", "prune"}, job)
}

// isQuestion reports whether a command failed because what was asked makes no
// sense, or not yet: a slip of the fingers, a missing key, nothing to drill. The
// jobs that a schedule knows always make sense, and so does each of a target's:
// whatever keeps them from their work is a failure.
func isQuestion(job string, err error) bool {
	name, _, _ := strings.Cut(job, ":")
	kind := failure.KindOf(err)
	switch name {
	case "sync":
		return false // it ends with 1 or 75, never as a question
	case "drill", "restore", "verify":
		return slices.Contains([]failure.Kind{failure.Usage, failure.Config, failure.NotFound}, kind)
	}
	return kind == failure.Usage
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
		failure.Usage: "usage", failure.Locked: "locked", failure.Config: "config", failure.Invalid: "invalid",
		failure.Refused: "refused", failure.NotFound: "not_found",
	}
	if name, ok := names[kind]; ok {
		return history.Failed, name, err
	}
	return history.Failed, stateOf(err), err
}

// ended records how a run ended, in the history and in this process.
func (a *App) ended(ctx context.Context, leg string, run history.Run, detail health.RunDetail) {
	for _, l := range servedBy(leg) {
		switch run.Outcome {
		case history.OK:
			a.NoteHistoryError(a.history.LegSucceeded(ctx, l, run.FinishedAt))
		case history.Interrupted:
		default:
			a.NoteHistoryError(a.history.LegFailed(ctx, l, run.FinishedAt, run.Error))
		}
		a.process.remember(l, run)
	}
	if run.ID == 0 {
		return
	}
	err := a.history.Finish(ctx, run)
	a.NoteHistoryError(err)
	if err == nil {
		a.process.mu.Lock()
		a.process.historyErr = nil
		a.process.mu.Unlock()
	}
}

// beatEnd tells the heartbeats how a run ended. What was skipped or interrupted is
// no success and no failure; of the daemon's own failures the scheduler says when
// they are for good (JobFailed).
func (a *App) beatEnd(leg, id string, run history.Run, detail health.RunDetail) {
	b := notify.Beat{RunID: id, Body: a.beatText(run.Error, run.StartedAt, run.FinishedAt.Sub(run.StartedAt))}
	switch {
	case run.Outcome == history.OK:
		b.Signal = notify.Success
	case health.Conclusive(run) && !detail.Daemon:
		b.Signal = notify.Fail
	default:
		return
	}
	a.beatLegs(servedBy(leg), b)
}

// HistoryError returns the last error of the history since a run was recorded
// whole.
func (a *App) HistoryError() error {
	a.process.mu.Lock()
	defer a.process.mu.Unlock()
	return a.process.historyErr
}

// mendHistory forgets the last error of the history once it can be written again.
func (p *process) mendHistory(check func() error) {
	p.mu.Lock()
	failed := p.historyErr
	p.mu.Unlock()
	if failed == nil || check() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.historyErr == failed { // another one has come meanwhile
		p.historyErr = nil
	}
}

// forget forgets what is remembered of runs.
func (p *process) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.runs)
	clear(p.legs)
	p.historyErr = nil
}

func (p *process) setForeign(foreign bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.foreign = foreign
}

func (p *process) isForeign() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.foreign
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
