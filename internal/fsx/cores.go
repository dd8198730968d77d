package fsx

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// cores are the processor's cores, as far as this process may use them.
var cores = semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))

// OnCore runs work, which keeps one core busy for long, as soon as no more than the
// other cores are kept busy so; the first to ask is the first to run. Were all run at
// once, the longest, for which everything waits in the end, would have only its part
// of a core until the others are done. Work must not wait for another OnCore. Only a
// ctx that ends before work has begun is an error of its own.
func OnCore(ctx context.Context, work func() error) error {
	if err := cores.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer cores.Release(1)
	return work()
}
