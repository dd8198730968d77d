package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// A backup shares its machine, so it keeps little garbage: a quarter of what is
// alive. But collecting a heap of a few megabytes that often, and returning to the
// system what the next packet needs again, cost a push more processor time than its
// compression. So a heap below a floor is left alone. The floor keeps a push below
// 64 MB; a restore is waited for, and its floor keeps it below 96 MB.
const (
	pushHeap    = 28 << 20
	restoreHeap = 48 << 20

	leastGarbage, mostGarbage = 25, 500 // percent of what is alive
)

// heapFloor is the size below which garbage is let be.
var heapFloor atomic.Int64

// keepHeapSmall has every collection decide when the next one comes. GOGC, where
// it is set, decides instead.
func keepHeapSmall() {
	if os.Getenv("GOGC") != "" {
		return
	}
	heapFloor.Store(pushHeap)
	debug.SetGCPercent(mostGarbage)
	// The finalizer of an object that nothing refers to runs after each collection.
	type sentinel struct{ _ [16]byte }
	var collected func(*sentinel)
	collected = func(s *sentinel) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		debug.SetGCPercent(garbagePercent(int64(live[0].Value.Uint64()), heapFloor.Load()))
		runtime.SetFinalizer(s, collected)
	}
	runtime.SetFinalizer(new(sentinel), collected)
}

// garbagePercent returns how much garbage may lie beside so many bytes that are
// alive: up to the floor, and above it a quarter of them.
func garbagePercent(live, floor int64) int {
	return int(min(max(leastGarbage, (floor-live)*100/max(live, 1)), mostGarbage))
}
