package fsx

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// cores are the processor's cores, as far as this process may use them.
var cores = turns{free: runtime.GOMAXPROCS(0)}

// turns lets as many in as are free, in the order in which they asked. Who waits does
// so on a mutex of his own, which the one before unlocks: unlike a channel, a mutex may
// be shared by tests that have a time of their own each (testing/synctest).
type turns struct {
	mu      sync.Mutex
	free    int
	waiting []*sync.Mutex
}

// take waits for a turn. It fails when ctx ends first.
func (t *turns) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	own := new(sync.Mutex)
	own.Lock()
	t.waiting = append(t.waiting, own)
	t.mu.Unlock()
	gaveUp := false // written before own is unlocked, read after that
	stop := context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(t.waiting, own); i >= 0 { // else its turn has come
			t.waiting = slices.Delete(t.waiting, i, i+1)
			gaveUp = true
			own.Unlock()
		}
	})
	defer stop()
	own.Lock()
	if gaveUp {
		return context.Cause(ctx)
	}
	return nil
}

// give lets the next one in.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	t.waiting[0].Unlock()
	t.waiting = t.waiting[1:]
}

// OnCore runs work, which keeps one core busy for long, as soon as no more than the
// other cores are kept busy so; the first to ask is the first to run. Were all run at
// once, the longest, for which everything waits in the end, would have only its part
// of a core until the others are done. Work must not wait for another OnCore. Only a
// ctx that ends before work has begun is an error of its own.
func OnCore(ctx context.Context, work func() error) error {
	if err := cores.take(ctx); err != nil {
		return err
	}
	defer cores.give()
	return work()
}
