package scheduler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a Store that outlives the Schedulers that use it, as the file
// does. It checks the order of what it is told.
type memory struct {
	mu     sync.Mutex
	served map[string]time.Time
	missed map[string][]time.Time
	fail   error
}

func newMemory() *memory {
	return &memory{served: map[string]time.Time{}, missed: map[string][]time.Time{}}
}

func (m *memory) Served(_ context.Context, job string) (time.Time, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.served[job]
	return t, ok, m.fail
}

func (m *memory) Serve(_ context.Context, job string, slot time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.served[job] = slot
	}
	return m.fail
}

func (m *memory) Missed(_ context.Context, job string, slots []time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missed[job] = append(m.missed[job], slots...)
	return m.fail
}

// record returns the slot that is recorded as served.
func (m *memory) record(job string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.served[job]
}

func (m *memory) setRecord(job string, slot time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.served[job] = slot
}

// gone returns the slots of a job that were recorded as missed.
func (m *memory) gone(job string) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.missed[job])
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// world is a machine: its store, its wall clock, and what its jobs did.
type world struct {
	t      *testing.T
	store  *memory
	mu     sync.Mutex
	shift  time.Duration // wall clock minus the bubble's clock
	ran    []Slot
	at     []time.Time // when the runs of ran started
	events []Event
	beats  int
}

func newWorld(t *testing.T) *world { return &world{t: t, store: newMemory()} }

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Round(0).Add(w.shift)
}

// step sets the wall clock forward or back, which is also how a suspended
// machine looks to its timers.
func (w *world) step(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shift += d
}

// setClock starts the story at a time.
func (w *world) setClock(text string) { w.step(at(w.t, text).Sub(w.now())) }

// job makes a job that notes its runs and then does work, which may be nil.
func (w *world) job(name, expr string, loc *time.Location, work func(context.Context, Slot) error) Job {
	return Job{Name: name, Cron: mustParse(w.t, expr, loc), Run: func(ctx context.Context, slot Slot) error {
		w.mu.Lock()
		w.ran = append(w.ran, slot)
		w.at = append(w.at, time.Now().Round(0).Add(w.shift))
		w.mu.Unlock()
		if work == nil {
			return nil
		}
		return work(ctx, slot)
	}}
}

// start runs a scheduler; stop ends it and returns Run's error.
func (w *world) start(jobs ...Job) (s *Scheduler, stop func() error) {
	w.t.Helper()
	s, err := New(w.store, jobs, Options{
		Report: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Beat: func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.beats++
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.now = w.now
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	synctest.Wait()
	return s, func() error { cancel(); return <-result }
}

// wait lets time pass, and all that happens in it happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// attempts returns all runs so far and when they started.
func (w *world) attempts() (ran []Slot, started []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ran), slices.Clone(w.at)
}

// runs returns the slots at which a job ran, as RFC 3339 in UTC.
func (w *world) runs(job string) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, slot := range w.ran {
		if slot.Job == job {
			list = append(list, slot.At.UTC().Format(time.RFC3339))
		}
	}
	return list
}

// told returns the events of one kind.
func (w *world) told(kind EventKind) (list []Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

func (w *world) wantRuns(job string, want ...string) {
	w.t.Helper()
	got := w.runs(job)
	if len(got) != len(want) {
		w.t.Fatalf("%s ran at %v, want %v", job, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			w.t.Fatalf("%s ran at %v, want %v", job, got, want)
		}
	}
}

var errBroken = errors.New("broken")
