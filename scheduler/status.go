package scheduler

import "time"

// Result is how an attempt went.
type Result struct {
	Slot     Slot
	Started  time.Time
	Finished time.Time
	Outcome  Outcome
	Err      error
}

// JobStatus is what a job is doing and will do. Times are zero where there is
// no such time.
type JobStatus struct {
	Name    string
	Expr    string    // "" when the job is only triggered
	Next    time.Time // the next slot that is not due yet
	Waiting time.Time // the slot that is due and has not started
	RetryAt time.Time // when a failed run is started again
	Running bool
	Since   time.Time // when the present attempt started
	Slot    Slot      // of the present attempt
	Stuck   bool      // it was cancelled and does not return
	Last    *Result   // the newest attempt that ended since the process started
}

// Status returns every job's state, in the order of the jobs.
func (s *Scheduler) Status() []JobStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]JobStatus, 0, len(s.entries))
	for _, e := range s.entries {
		list = append(list, e.status())
	}
	return list
}

func (e *entry) status() JobStatus {
	status := JobStatus{Name: e.job.Name, Expr: e.job.Cron.String(), Next: e.next, Waiting: e.pending}
	if e.last != nil {
		last := *e.last
		status.Last = &last
	}
	if e.retry != nil {
		status.RetryAt = e.retry.at
	}
	if e.run != nil {
		status.Running, status.Since = true, e.run.started
		status.Slot, status.Stuck = e.run.slot, e.run.stuck
	}
	return status
}
