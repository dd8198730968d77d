package daemon

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/scheduler"
)

// beatEvery is how often the daemon writes down that it is at work, when nothing
// else has changed.
const beatEvery = 20 * time.Second

// life is what the daemon says of itself: that it is at work, what it will try
// again, and what is wrong with its own parts. Others read it in a file.
type life struct {
	app func() *app.App

	mu      sync.Mutex
	now     app.Life
	others  map[string]health.Trouble
	written time.Time
}

func newLife(a func() *app.App) *life {
	now := time.Now()
	return &life{app: a, others: make(map[string]health.Trouble),
		now: app.Life{PID: os.Getpid(), Since: now, Beat: now, Retries: make(map[string]time.Time),
			// An address is dead until it takes a message, whichever daemon sends it.
			Notify: a().LastLife().Notify}}
}

// change changes what the daemon says, and writes it down.
func (l *life) change(how func(*app.Life)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how(&l.now)
	l.write()
}

// write is called with mu held. What cannot be written is told by the report of
// this process all the same, and the next beat tries again.
func (l *life) write() {
	own := l.now
	own.Retries = maps.Clone(l.now.Retries)
	own.Others = nil
	for _, name := range slices.Sorted(maps.Keys(l.others)) {
		own.Others = append(own.Others, health.Other{Name: name, Trouble: l.others[name]})
	}
	a := l.app()
	if err := a.HistoryError(); err != nil {
		own.History = err.Error()
	}
	if err := a.SetLife(own); err != nil {
		a.NoteHistoryError(err) // the same disk, and the same to be told of it
	}
	l.written = time.Now()
}

// beat says that the scheduler's loop makes progress.
func (l *life) beat() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.Beat = time.Now()
	if l.now.Beat.Sub(l.written) >= beatEvery || l.now.Beat.Before(l.written) {
		l.write()
	}
}

// stopped says that the daemon ends in order.
func (l *life) stopped(context.Context) error {
	l.change(func(now *app.Life) { now.Beat, now.Stopped = time.Now(), time.Now() })
	return nil
}

// bad says that a part of the daemon is not well, and good that it is. They
// report whether that is new.
func (l *life) bad(name string, t health.Trouble) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, known := l.others[name]; known {
		t.Since = old.Since
	} else {
		t.Since = time.Now().UTC()
	}
	changed := l.others[name] != t
	l.others[name] = t
	l.write()
	return changed
}

func (l *life) good(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.others[name]; !known {
		return false
	}
	delete(l.others, name)
	l.write()
	return true
}

// heard notes how an address took the last message: one that did not is somebody
// who does not know.
func (l *life) heard(key string, err error) {
	if err != nil {
		l.app().Options.Log.Warn("somebody could not be told", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.now.Notify, func(u app.Unheard) bool { return u.Key == key })
	switch {
	case err == nil && i < 0:
		return // it is well, and was
	case err == nil:
		l.now.Notify = slices.Delete(slices.Clone(l.now.Notify), i, i+1)
	case i < 0:
		l.now.Notify = append(slices.Clone(l.now.Notify),
			app.Unheard{Key: key, Trouble: health.Trouble{Message: err.Error(), Since: time.Now().UTC()}})
	default:
		l.now.Notify = slices.Clone(l.now.Notify)
		l.now.Notify[i].Message = err.Error()
	}
	l.write()
}

// addresses forgets those that are no longer configured.
func (l *life) addresses(keys []string) {
	l.change(func(now *app.Life) {
		now.Notify = slices.DeleteFunc(slices.Clone(now.Notify), func(u app.Unheard) bool {
			return !slices.Contains(keys, u.Key)
		})
	})
}

// job follows the scheduler: what has begun and may be tried again, what is tried
// again when, and what has ended for good.
func (l *life) job(e scheduler.Event) {
	legs := legsOf(e.Job)
	if len(legs) == 0 {
		return
	}
	l.change(func(now *app.Life) {
		for _, leg := range legs {
			switch e.Kind {
			case scheduler.Started:
				if e.Slot.Attempt <= takeRetries && isTake(e.Job) {
					now.Retries[leg] = time.Now().Add(takeTimeout) // until the scheduler decides
				}
			case scheduler.Retrying:
				now.Retries[leg] = e.RetryAt
			case scheduler.Finished:
				delete(now.Retries, leg)
			}
		}
	})
}
