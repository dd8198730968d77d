package scheduler

import (
	"context"
	"time"
)

// entry is a job and what is known of it.
type entry struct {
	job       Job
	loaded    bool      // seen holds what the Store said
	changed   bool      // the expression is new: slots count from now
	seen      time.Time // slots up to here are served, missed or pending
	served    time.Time // what the Store was last told
	ahead     time.Time // a served slot too far in the future to be believed
	next      time.Time // the first slot after seen; zero for never
	pending   time.Time // the slot that waits to run; zero for none
	retry     *retry
	carried   int // attempts of an older slot whose retry the waiting one replaces
	triggered bool
	run       *run
	last      *Result
}

// retry is a failed attempt that waits for the next one.
type retry struct {
	failed  *run
	err     error
	took    time.Duration
	at      time.Time
	pause   time.Duration
	outcome Outcome
}

// run is one attempt.
type run struct {
	slot      Slot
	covered   map[string]time.Time // the slots of other jobs that it serves
	started   time.Time            // by the wall clock
	clock     time.Time            // the same with its monotonic reading
	ctx       context.Context
	cancel    context.CancelFunc
	cancelled time.Time // when it was seen to be cancelled, monotonic
	stuck     bool
	done      bool // err is its result
	err       error
}

// replace puts another definition under the same name.
func (e *entry) replace(job Job) {
	if e.job.Cron.String() != job.Cron.String() || e.job.Cron.Location().String() != job.Cron.Location().String() {
		e.changed = true
	}
	if job.Cron == nil {
		e.pending = time.Time{}
	}
	e.job = job
}

// advance moves on to a slot.
func (e *entry) advance(slot time.Time) {
	e.seen = slot
	e.next = e.job.Cron.Next(slot)
}

// idle reports whether the job may start: it never overlaps with itself.
func (e *entry) idle() bool { return e.run == nil }

// busy reports whether the entry keeps its group waiting. A stuck run does not:
// one that hangs must not stop everything else.
func (e *entry) busy() bool { return e.run != nil && !e.run.stuck }

func (e *entry) group() string {
	if e.job.Group == "" {
		return "job " + e.job.Name
	}
	return "group " + e.job.Group
}

// readyAt returns the time by which the entry queues, and whether it is to run now.
func (e *entry) readyAt(now time.Time) (time.Time, bool) {
	switch {
	case !e.idle():
		return time.Time{}, false
	case !e.pending.IsZero():
		return e.pending, true
	case e.retry != nil && !now.Before(e.retry.at):
		return e.retry.failed.slot.At, true
	case e.triggered:
		return now, true
	}
	return time.Time{}, false
}

func (e *entry) covers(name string) bool {
	for _, covered := range e.job.Covers {
		if covered == name {
			return true
		}
	}
	return false
}
