package scheduler

import (
	"context"
	"slices"
	"time"
)

// pass looks at everything once: what ended, what fell due, what may start. It
// returns the time to the next look.
func (s *Scheduler) pass(ctx context.Context) time.Duration {
	s.mu.Lock()
	now := s.now()
	s.finishAll(ctx, now)
	for _, e := range s.entries {
		s.load(ctx, e, now)
		s.consider(ctx, e, now)
	}
	s.dispatch(ctx, now)
	pause := s.pause(now)
	s.unlockAndReport()
	return pause
}

// unlockAndReport hands on the events of a pass when the lock is released, so
// that Report may call the Scheduler's methods.
func (s *Scheduler) unlockAndReport() {
	events := s.events
	s.events = nil
	s.mu.Unlock()
	for _, event := range events {
		s.options.Report(event)
	}
}

func (s *Scheduler) emit(e *entry, now time.Time, event Event) {
	event.Job, event.At = e.job.Name, now
	s.events = append(s.events, event)
}

// load learns which slots are served. On the very first start none is missed:
// slots count from then, and that start is recorded. While the Store cannot
// say, slots count from now, and it is asked again at each pass.
func (s *Scheduler) load(ctx context.Context, e *entry, now time.Time) {
	switch {
	case !e.loaded:
		served, known, err := s.store.Served(ctx, e.job.Name)
		if err != nil {
			s.emit(e, now, Event{Kind: StoreError, Err: err})
			if e.seen.IsZero() {
				e.advance(now)
			}
			return
		}
		e.loaded = true
		e.served = served
		switch {
		case !known && e.seen.IsZero():
			s.restart(ctx, e, now)
		case !known:
			s.serve(ctx, e, now, e.seen)
		case served.After(e.seen):
			e.advance(served)
		}
	case e.changed:
		s.restart(ctx, e, now)
	}
	e.changed = false
	s.checkClock(e, now)
}

// checkClock stops believing in a served slot that lies too far ahead. Which
// clock is wrong, the one that served it or the present one (a machine without
// a battery starts in 1970), is known only when the present one gets there: if
// it does so in one step, what was served stays served.
func (s *Scheduler) checkClock(e *entry, now time.Time) {
	if e.seen.Sub(now) > maxStepBack {
		s.emit(e, now, Event{Kind: ClockBack, Slot: Slot{Job: e.job.Name, At: e.seen}})
		e.ahead, e.served = e.seen, time.Time{}
		e.advance(now.Truncate(time.Second))
	}
	if !e.ahead.IsZero() && !now.Before(e.ahead) {
		if e.ahead.After(e.seen) {
			e.advance(e.ahead)
		}
		e.ahead = time.Time{}
	}
}

// restart makes slots count from now, to the second.
func (s *Scheduler) restart(ctx context.Context, e *entry, now time.Time) {
	now = now.Truncate(time.Second)
	// A served slot in the near future stays: a clock put back re-runs nothing.
	if e.seen.Before(now) {
		e.seen = now
	}
	e.advance(e.seen)
	if e.job.Cron != nil {
		s.serve(ctx, e, now, e.seen)
	}
}

// consider notes the slots that fell due since the last look: the newest waits
// to run, the others are missed, and so is one that waited until now.
func (s *Scheduler) consider(ctx context.Context, e *entry, now time.Time) {
	if e.next.IsZero() || now.Before(e.next) {
		return
	}
	slots, more := e.job.Cron.Due(e.seen, now, maxMissed+1)
	if len(slots) == 0 {
		return
	}
	newest := slots[len(slots)-1]
	missed := slots[:len(slots)-1]
	if !e.pending.IsZero() {
		missed = append([]time.Time{e.pending}, missed...)
		e.pending = time.Time{}
	}
	e.advance(newest)
	if e.job.NoCatchUp && now.Sub(newest) > onTime {
		s.miss(ctx, e, now, append(missed, newest), more)
		s.serve(ctx, e, now, newest)
		return
	}
	s.miss(ctx, e, now, missed, more)
	e.pending = newest
	if e.retry != nil {
		// The newer slot is the next attempt: where slots lie closer together than
		// retries, a job that always fails would else begin anew for ever.
		e.carried = e.retry.failed.slot.Attempt
		s.reportEnd(e, now, e.retry)
	}
}

func (s *Scheduler) miss(ctx context.Context, e *entry, now time.Time, slots []time.Time, more bool) {
	if len(slots) == 0 {
		return
	}
	if err := s.store.Missed(ctx, e.job.Name, slots); err != nil {
		s.emit(e, now, Event{Kind: StoreError, Err: err})
	}
	s.emit(e, now, Event{Kind: Missed, Slots: slots, More: more})
}

// serve records a slot. When that fails the job runs all the same: running a
// slot twice after a crash is the smaller evil than taking no backups because
// the history's disk is full.
func (s *Scheduler) serve(ctx context.Context, e *entry, now, slot time.Time) {
	// A slot that waited while a later one was recorded changes nothing.
	if ahead := e.served.Sub(slot); ahead >= 0 && ahead <= maxStepBack {
		return
	}
	if err := s.store.Serve(ctx, e.job.Name, slot); err != nil {
		s.emit(e, now, Event{Kind: StoreError, Err: err})
		return
	}
	e.served = slot
}

// dispatch starts what may start: in each group one run at a time, in the
// order in which they fell due.
func (s *Scheduler) dispatch(ctx context.Context, now time.Time) {
	var waiting []*entry
	for _, e := range s.entries {
		if _, ok := e.readyAt(now); ok && !s.covered(e) {
			waiting = append(waiting, e)
		}
	}
	slices.SortStableFunc(waiting, func(a, b *entry) int {
		timeA, _ := a.readyAt(now)
		timeB, _ := b.readyAt(now)
		return timeA.Compare(timeB)
	})
	for _, e := range waiting {
		if _, ok := e.readyAt(now); ok && ctx.Err() == nil && !s.occupied(e.group()) {
			s.start(ctx, e, now)
		}
	}
}

// covered reports whether the slot that waits will be served by another job that
// is waiting as well.
func (s *Scheduler) covered(e *entry) bool {
	return !e.pending.IsZero() && slices.ContainsFunc(s.entries, func(other *entry) bool {
		return other.idle() && !other.pending.IsZero() && other.covers(e.job.Name)
	})
}

func (s *Scheduler) occupied(group string) bool {
	taken := func(e *entry) bool { return e.busy() && e.group() == group }
	return slices.ContainsFunc(s.entries, taken) || slices.ContainsFunc(s.retired, taken)
}

// pause returns the time to the next look. It is never longer than wakeEvery,
// and needs not be exact: each pass asks the clock again.
func (s *Scheduler) pause(now time.Time) time.Duration {
	pause := wakeEvery
	sooner := func(t time.Time) {
		if wait := t.Sub(now); !t.IsZero() && wait > 0 {
			pause = min(pause, wait)
		}
	}
	for _, e := range s.entries {
		sooner(e.next)
		if e.retry != nil {
			sooner(e.retry.at)
		}
	}
	return pause
}
