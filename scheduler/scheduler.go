// Package scheduler decides when jobs run, and runs them: cron slots, catching
// up after downtime, no overlap, retries.
//
// A slot is a job and the time that its expression names. Each slot starts at
// most one run (and the retries of that run), whatever dies: the slot is
// recorded in the Store before the run starts. What it does not promise is that
// each slot runs. Of the slots that pass while the process is down, the machine
// suspended or the clock being set forward, the newest of each job runs once,
// at once; the older ones are recorded as missed. A run that was cut short by
// the end of its process is not started again by itself.
//
// All comparisons are of wall-clock time, read at least every 30 seconds:
// timers do not count the time that a machine is suspended, so a timer set for
// the morning rings hours late on a laptop that slept.
package scheduler

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// wakeEvery is how often the loop looks at the clock when nothing is due.
	wakeEvery = 30 * time.Second
	// onTime is how late a slot may be noticed and still not be missed, for
	// jobs that do not catch up. It spans several looks at the clock.
	onTime = 2 * time.Minute
	// maxStepBack is how far the newest served slot may lie in the future. Up
	// to here a clock that was put back re-runs nothing. Beyond it the slot was
	// served by a clock that was wrong, and waiting for it would be silence:
	// slots count from now on.
	maxStepBack = 7 * 24 * time.Hour
	// maxMissed bounds how many missed slots are recorded one by one.
	maxMissed = 1000
)

// Store remembers slots over restarts. Its methods are called by the loop
// alone, one at a time.
type Store interface {
	// Served returns the slot that the last Serve of the job recorded; false
	// when there was none.
	Served(ctx context.Context, job string) (time.Time, bool, error)
	// Serve records that slots up to and including this one are dealt with. nil
	// means that the record survives a power cut. It replaces the record before
	// it, even a later one.
	Serve(ctx context.Context, job string, slot time.Time) error
	// Missed records slots that will not run, oldest first. A slot that it has
	// already is no error.
	Missed(ctx context.Context, job string, slots []time.Time) error
}

// Options are what a Scheduler needs besides its jobs. The zero value works.
type Options struct {
	// Report is told what happens, in order, by the loop's goroutine, which
	// waits for it: it must be quick. It may call the Scheduler's methods.
	Report func(Event)
	// Beat is called after each pass of the loop, at least every 30 seconds, also
	// while Run waits for jobs at its end. A watchdog should allow two minutes.
	Beat func()
	// ShutdownTimeout is how long Run waits for cancelled jobs; default 60 s.
	ShutdownTimeout time.Duration
}

// Scheduler runs jobs at their slots. Its methods may be called at any time
// from any goroutine, except that Run is called once.
type Scheduler struct {
	store   Store
	options Options
	now     func() time.Time // the wall clock; only this package's tests set it
	wake    chan struct{}    // holds one token: look at the jobs now

	mu      sync.Mutex // guards what follows; the loop holds it during a pass
	entries []*entry
	retired []*entry // replaced while their run went on
	events  []Event  // of the present pass, reported after it
}

// New makes a Scheduler of jobs. It refuses jobs that cannot work together.
func New(store Store, jobs []Job, options Options) (*Scheduler, error) {
	if options.Report == nil {
		options.Report = func(Event) {}
	}
	if options.Beat == nil {
		options.Beat = func() {}
	}
	if options.ShutdownTimeout <= 0 {
		options.ShutdownTimeout = time.Minute
	}
	// Without its monotonic reading a time compares by the wall clock.
	now := func() time.Time { return time.Now().Round(0) }
	s := &Scheduler{store: store, options: options, now: now, wake: make(chan struct{}, 1)}
	return s, s.Replace(jobs)
}

// Run works until ctx is done. Then it cancels the jobs that run, waits for
// them up to Options.ShutdownTimeout, and names those that are still running in
// a *StillRunning; otherwise it returns nil.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		pause := s.pass(ctx)
		s.options.Beat()
		timer.Reset(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
		}
	}
	return s.drain(ctx)
}

// drain waits for the runs that ctx, which is done, has cancelled. A monotonic
// timer is right here: the bound is on patience, not on a time of day.
func (s *Scheduler) drain(ctx context.Context) error {
	patience := time.NewTimer(s.options.ShutdownTimeout)
	defer patience.Stop()
	beat := time.NewTicker(wakeEvery)
	defer beat.Stop()
	for {
		running := s.collect(ctx)
		s.options.Beat()
		if len(running) == 0 {
			return nil
		}
		select {
		case <-patience.C:
			return &StillRunning{Jobs: running}
		case <-beat.C:
		case <-s.wake:
		}
	}
}

// StillRunning says which jobs had not returned when Run gave up waiting.
type StillRunning struct{ Jobs []string }

// Error names the jobs.
func (e *StillRunning) Error() string {
	return "still running after the shutdown timeout: " + strings.Join(e.Jobs, ", ")
}

// TriggerNow makes a job run as soon as nothing stands in its way, whatever its
// expression says. A job that is running runs once more afterwards; one that
// waits for a retry does not wait any longer.
func (s *Scheduler) TriggerNow(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(name)
	if e == nil {
		return fmt.Errorf("no job is called %q", name)
	}
	e.triggered = true
	s.poke()
	return nil
}

// Replace puts other jobs in the place of the present ones. A job of the same
// name keeps what it was doing: its run, its retries, its slots. Under a new
// expression, slots count from now: none is due for the past. A job that is no
// longer there is not started again, and a run of it goes on to its end.
func (s *Scheduler) Replace(jobs []Job) error {
	if err := check(jobs); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.entries
	s.entries = nil
	for _, job := range jobs {
		job.Covers = slices.Clone(job.Covers)
		i := slices.IndexFunc(before, func(e *entry) bool { return e.job.Name == job.Name })
		if i < 0 {
			s.entries = append(s.entries, s.revive(job))
			continue
		}
		e := before[i]
		before = slices.Delete(slices.Clone(before), i, i+1)
		e.replace(job)
		s.entries = append(s.entries, e)
	}
	for _, e := range before {
		if e.retry != nil {
			s.reportEnd(e, s.now(), e.retry)
		}
		if e.run != nil {
			s.retired = append(s.retired, e)
		}
	}
	s.poke()
	return nil
}

// revive makes the entry of a job that was not there. One that was replaced a
// moment ago and still runs is taken back, or it would overlap with itself.
func (s *Scheduler) revive(job Job) *entry {
	i := slices.IndexFunc(s.retired, func(e *entry) bool { return e.job.Name == job.Name })
	if i < 0 {
		return &entry{job: job}
	}
	e := s.retired[i]
	s.retired = slices.Delete(s.retired, i, i+1)
	e.replace(job)
	return e
}

func (s *Scheduler) entry(name string) *entry {
	for _, e := range s.entries {
		if e.job.Name == name {
			return e
		}
	}
	return nil
}

// all returns every entry that may have a run.
func (s *Scheduler) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, list := range [][]*entry{s.entries, s.retired} {
			for _, e := range list {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// poke makes the loop look at once. It never blocks.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
