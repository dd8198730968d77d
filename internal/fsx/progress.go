package fsx

import "sync"

// Progress hears how far a long piece of work is: done of total bytes of the
// named step, or zero for both where only the step is known. It may be called
// from several goroutines. A nil Progress hears nothing.
type Progress func(step string, done, total int64)

// Tell calls p unless it is nil.
func (p Progress) Tell(step string, done, total int64) {
	if p != nil {
		p(step, done, total)
	}
}

// Count returns a function that adds up the bytes of a step and tells p the sum.
// It may be called from several goroutines; what p hears only grows.
func (p Progress) Count(step string, total int64) func(bytes int64) {
	if p == nil {
		return func(int64) {}
	}
	var mu sync.Mutex
	var done int64
	return func(bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		done += bytes
		p(step, done, total)
	}
}

// Prefix returns a Progress that hears of every step with prefix and a space in
// front: work on several targets at once is told apart by it.
func (p Progress) Prefix(prefix string) Progress {
	if p == nil {
		return nil
	}
	return func(step string, done, total int64) { p(prefix+" "+step, done, total) }
}
