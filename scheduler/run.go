package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"
)

// stuckAfter is how long a cancelled run may take to return.
const stuckAfter = 30 * time.Second

// start begins what the entry wants: the slot that waits, else its retry, else
// the triggered run.
func (s *Scheduler) start(ctx context.Context, e *entry, now time.Time) {
	r := &run{slot: Slot{Job: e.job.Name, At: now, Attempt: 1, Triggered: true}, started: now, clock: time.Now()}
	switch {
	case !e.pending.IsZero():
		r.slot.At, r.slot.Triggered, r.slot.Attempt = e.pending, false, 1+e.carried
		r.covered = s.cover(ctx, e, now)
		s.serve(ctx, e, now, e.pending)
		e.pending = time.Time{}
	case e.retry != nil:
		r.slot, r.covered = e.retry.failed.slot, e.retry.failed.covered
		r.slot.Attempt++
	}
	e.retry, e.carried, e.triggered, e.run = nil, 0, false, r
	r.ctx, r.cancel = context.WithCancel(ctx)
	if e.job.Timeout > 0 {
		r.ctx, r.cancel = context.WithTimeoutCause(ctx, e.job.Timeout, fmt.Errorf("%w: over %s", ErrTimeout,
			e.job.Timeout))
	}
	s.emit(e, now, Event{Kind: Started, Slot: r.slot})
	work := e.job.Run
	go func() {
		err := protect(r.ctx, work, r.slot)
		s.mu.Lock()
		r.done, r.err = true, err
		s.mu.Unlock()
		s.poke()
	}()
}

// protect turns a panic into an error.
func protect(ctx context.Context, work func(context.Context, Slot) error, slot Slot) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return work(ctx, slot)
}

// cover lets the coming run of e serve the waiting slots of the jobs that it
// covers. They are recorded before its own: when the process dies in
// between, e's slot is still due and covers them again.
func (s *Scheduler) cover(ctx context.Context, e *entry, now time.Time) map[string]time.Time {
	covered := map[string]time.Time{}
	for _, name := range e.job.Covers {
		other := s.entry(name)
		if other == nil || other.pending.IsZero() {
			continue
		}
		covered[name] = other.pending
		s.serve(ctx, other, now, other.pending)
		s.emit(other, now, Event{Kind: Covered, Slot: Slot{Job: name, At: other.pending}, By: e.job.Name})
		other.pending = time.Time{}
	}
	return covered
}

// finishAll takes the results of runs that ended and looks after those that
// should have.
func (s *Scheduler) finishAll(ctx context.Context, now time.Time) {
	for e := range s.all() {
		switch {
		case e.run == nil:
		case e.run.done:
			s.finish(ctx, e, now)
		default:
			s.watch(e, now)
		}
		// A clock that was put back must not stretch a pause.
		if e.retry != nil && e.retry.at.Sub(now) > e.retry.pause {
			e.retry.at = now.Add(e.retry.pause)
		}
	}
	s.retired = slices.DeleteFunc(s.retired, func(e *entry) bool { return e.run == nil })
}

// finish takes the result of a run: done, to be retried, or given up.
func (s *Scheduler) finish(ctx context.Context, e *entry, now time.Time) {
	r := e.run
	e.run = nil
	outcome := outcomeOf(ctx, r)
	if outcome == TimedOut {
		r.err = fmt.Errorf("%w: %w", context.Cause(r.ctx), r.err)
	}
	took := time.Since(r.clock)
	r.cancel()
	e.last = &Result{Slot: r.slot, Started: r.started, Finished: now, Outcome: outcome, Err: r.err}
	failed := &retry{failed: r, err: r.err, took: took, outcome: outcome}
	retry := s.retries(e, r, outcome)
	if retry && !e.pending.IsZero() {
		retry, e.carried = false, r.slot.Attempt // as where a newer slot ends a pause
	}
	if !retry {
		s.reportEnd(e, now, failed)
		return
	}
	pause := RetryPause
	if e.job.Pause != nil {
		pause = e.job.Pause
	}
	failed.pause = pause(r.slot.Attempt)
	failed.at = now.Add(failed.pause)
	e.retry = failed
	s.emit(e, now, Event{Kind: Retrying, Slot: r.slot, Err: r.err, Duration: took, RetryAt: failed.at})
}

func (s *Scheduler) retries(e *entry, r *run, outcome Outcome) bool {
	return outcome == Failed && r.slot.Attempt <= e.job.Retries &&
		(e.job.Retryable == nil || e.job.Retryable(r.err, r.slot.Attempt)) && s.entry(e.job.Name) == e
}

// outcomeOf names how a run ended. A run that finished its work is ok, however
// late it was. One that gave up because its context ended says so by its
// error, and the context knows why it ended.
func outcomeOf(ctx context.Context, r *run) Outcome {
	switch {
	case r.err == nil:
		return OK
	case errors.Is(r.err, ErrSkipped):
		return Skipped
	case ctx.Err() != nil:
		return Interrupted
	case r.ctx.Err() != nil:
		return TimedOut
	}
	return Failed
}

// reportEnd ends a run for good. What it covered is not served when it failed, and
// runs by itself unless a newer slot has come.
func (s *Scheduler) reportEnd(e *entry, now time.Time, end *retry) {
	e.retry = nil
	s.emit(e, now, Event{Kind: Finished, Slot: end.failed.slot, Outcome: end.outcome, Err: end.err, Duration: end.took})
	if end.outcome == Failed || end.outcome == TimedOut {
		s.uncover(end.failed)
	}
}

func (s *Scheduler) uncover(r *run) {
	for _, name := range slices.Sorted(maps.Keys(r.covered)) {
		if other := s.entry(name); other != nil && other.seen.Equal(r.covered[name]) {
			other.pending = other.seen
		}
	}
	r.covered = nil
}

// watch reports a run that was cancelled and does not return. Monotonic time
// is right here, as for the timeout itself: a run must not be called stuck
// because the machine slept.
func (s *Scheduler) watch(e *entry, now time.Time) {
	r := e.run
	switch {
	case r.stuck || r.ctx.Err() == nil:
	case r.cancelled.IsZero():
		r.cancelled = time.Now()
	case time.Since(r.cancelled) >= stuckAfter:
		r.stuck = true
		s.emit(e, now, Event{Kind: Stuck, Slot: r.slot, Err: context.Cause(r.ctx), Duration: time.Since(r.clock)})
		s.uncover(r)
	}
}

// collect takes the results of runs that ended while the scheduler ends, and
// names those that have not.
func (s *Scheduler) collect(ctx context.Context) []string {
	s.mu.Lock()
	var running []string
	for e := range s.all() {
		if e.run == nil {
			continue
		}
		if !e.run.done {
			running = append(running, e.job.Name)
			continue
		}
		s.finish(ctx, e, s.now())
	}
	s.unlockAndReport()
	return running
}
