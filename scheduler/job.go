package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Job is something to do, and when.
type Job struct {
	Name string
	// Cron says when; nil only when triggered.
	Cron *Cron
	// Run does the work and honours its context. A panic in it becomes an
	// error. It may return an error that wraps ErrSkipped.
	Run func(ctx context.Context, slot Slot) error
	// Group names the jobs that run one at a time, in the order in which they
	// fell due. Different groups run at once. A job alone in its group, as with
	// "" (its own name), waits for nobody.
	Group string
	// Timeout bounds each attempt, in time that the machine was awake; then the
	// context is cancelled. 0 is no bound. A run that was cancelled so is
	// not retried.
	Timeout time.Duration
	// Retries is how often a failed run is started again before it has failed.
	Retries int
	// Pause says how long to wait before the retry after the n-th attempt, from
	// 1; nil means RetryPause.
	Pause func(attempt int) time.Duration
	// Retryable reports whether another attempt may help after the n-th, from 1,
	// failed; nil means always.
	Retryable func(err error, attempt int) bool
	// NoCatchUp makes slots that passed while nobody looked count as missed,
	// all of them. A slot that fell due while the loop ran is not one of these.
	NoCatchUp bool
	// Covers names jobs whose work this one does as well. When both are waiting
	// to run, this one runs and the other's slot is served by it. When
	// it fails for good, the other runs after all. What covers others may be
	// covered itself, by one that covers those as well.
	Covers []string
}

// Slot is what a run is for.
type Slot struct {
	Job       string
	At        time.Time // the scheduled time; for a triggered run when it started
	Attempt   int       // 1 for the first
	Triggered bool      // by TriggerNow and not by the clock
}

// ErrSkipped is what a job returns, wrapped with its reason, when it had good
// grounds to do nothing. It is not a success and is not retried.
var ErrSkipped = errors.New("skipped")

// ErrTimeout is in the error of a run that was cancelled after Job.Timeout.
var ErrTimeout = errors.New("ran too long")

// Outcome is how an attempt ended.
type Outcome string

// The outcomes.
const (
	OK          Outcome = "ok"
	Failed      Outcome = "failed"
	Skipped     Outcome = "skipped"
	TimedOut    Outcome = "timeout"
	Interrupted Outcome = "interrupted" // by the end of the scheduler
)

// EventKind is what an Event tells.
type EventKind int

// The kinds of events.
const (
	Started    EventKind = iota // an attempt starts
	Finished                    // a run ended: Outcome and Err; no retry follows
	Retrying                    // an attempt failed with Err; the next one is at RetryAt
	Stuck                       // a cancelled run does not return; its job is not started again until it does
	Missed                      // Slots will not run
	Covered                     // the slot is served by the run of By
	StoreError                  // the Store failed with Err; jobs run all the same
	ClockBack                   // the served slot lies too far in the future; slots count from now
)

// Event is one thing that happened.
type Event struct {
	Kind     EventKind
	Job      string
	At       time.Time // now
	Slot     Slot
	Outcome  Outcome       // of Finished
	Err      error         // of Finished, Retrying, StoreError
	Duration time.Duration // of the attempt, for Finished and Retrying
	RetryAt  time.Time     // of Retrying
	Slots    []time.Time   // of Missed, oldest first
	More     bool          // of Missed: there are older ones
	By       string        // of Covered
}

// check refuses jobs that cannot work together.
func check(jobs []Job) error {
	covers := map[string][]string{}
	names := map[string]bool{}
	for _, job := range jobs {
		switch {
		case job.Name == "" || job.Run == nil:
			return fmt.Errorf("job %q: it needs a name and something to run", job.Name)
		case names[job.Name]:
			return fmt.Errorf("job %q: there are two of this name", job.Name)
		}
		names[job.Name] = true
		covers[job.Name] = job.Covers
	}
	for _, job := range jobs {
		if i := slices.IndexFunc(job.Covers, func(name string) bool { return !names[name] }); i >= 0 {
			return fmt.Errorf("job %q: it covers %q, which is no job", job.Name, job.Covers[i])
		}
		for _, name := range job.Covers {
			for _, further := range covers[name] {
				// Jobs that wait for each other would wait for ever, and a slot that is
				// served twice removed would have to be given back twice.
				if further == job.Name || !slices.Contains(job.Covers, further) {
					return fmt.Errorf("job %q: it covers %q, and not %q, which that covers", job.Name, name, further)
				}
			}
		}
	}
	return nil
}

// RetryPause is the pause before the retry after the n-th attempt, counted
// from 1: 1, 5, and then 15 minutes.
func RetryPause(attempt int) time.Duration {
	switch {
	case attempt <= 1:
		return time.Minute
	case attempt == 2:
		return 5 * time.Minute
	}
	return 15 * time.Minute
}
