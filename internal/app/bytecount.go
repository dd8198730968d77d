package app

import "sync"

// byteCount adds up the bytes of the step under way, from several goroutines.
type byteCount struct {
	mu   sync.Mutex
	step string
	done int64
	tell func(step string, done int64)
}

func newByteCount(tell func(step string, done int64)) *byteCount { return &byteCount{tell: tell} }

func (c *byteCount) add(step string, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if step != c.step {
		c.step, c.done = step, 0
	}
	c.done += bytes
	c.tell(c.step, c.done)
}
