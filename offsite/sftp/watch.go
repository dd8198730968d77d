package sftp

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"
)

// link is one connection that carries the SFTP protocol.
type link struct {
	io.Reader
	io.WriteCloser

	// kill ends the connection at once and unblocks whoever reads or writes,
	// also a write that waits in the kernel. It may be called several times.
	kill func()
	// last says what the transport has to tell about its end, or "". It may
	// be nil.
	last func() string
	// refusal explains err, by which SFTP did not begin. It may be nil.
	refusal func(err error) error
	// keepAlive asks the peer for signs of life until the watch has stopped,
	// and breaks it off when there are none. It may be nil.
	keepAlive func(*watch)
}

// watch ends a link whose peer has stopped answering. A machine that went to
// sleep sends nothing that would end a TCP connection: a reader would wait
// forever and a writer for as long as the kernel retransmits, a quarter of an
// hour. The library that speaks SFTP has no deadlines, so they are kept here,
// under it, where every request and every answer passes.
type watch struct {
	link    link
	timeout time.Duration

	mu      sync.Mutex
	sent    packets   // requests; each gets exactly one answer
	got     packets   // answers
	quiet   time.Time // when a request last began to wait, or an answer's bytes came
	cause   error     // why the connection was ended
	stopped chan struct{}
}

// newWatch passes l on; from start on, a request may wait for timeout.
func newWatch(l link, timeout time.Duration) *watch {
	return &watch{link: l, timeout: timeout, stopped: make(chan struct{})}
}

// start begins to watch, until the link is broken.
func (w *watch) start() {
	go w.run()
	if w.link.keepAlive != nil {
		go w.link.keepAlive(w)
	}
}

func (w *watch) run() {
	tick := time.NewTicker(max(w.timeout/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-w.stopped:
			return
		case now := <-tick.C:
			if w.overdue(now) {
				w.breakOff(fmt.Errorf("no answer for %v", w.timeout))
			}
		}
	}
}

func (w *watch) overdue(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent.count > w.got.count && now.Sub(w.quiet) > w.timeout
}

// breakOff ends the connection; the first cause is kept.
func (w *watch) breakOff(cause error) {
	w.mu.Lock()
	first := w.cause == nil
	if first {
		w.cause = cause
		close(w.stopped)
	}
	w.mu.Unlock()
	if first {
		w.link.kill()
	}
}

// broken gives why the connection was ended, or nil.
func (w *watch) broken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

// Write sends requests. They count as waiting from here on, not from when the
// kernel has taken them.
func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	if w.sent.count == w.got.count {
		w.quiet = time.Now()
	}
	w.sent.add(p)
	w.mu.Unlock()
	return w.link.Write(p)
}

// Read receives answers.
func (w *watch) Read(p []byte) (int, error) {
	n, err := w.link.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > 0 {
		w.quiet = time.Now()
		w.got.add(p[:n])
	}
	return n, err
}

// Close ends the stream of requests.
func (w *watch) Close() error { return w.link.Close() }

// packets counts the packets of an SFTP stream, each of which is a length of
// four bytes and so many bytes after it.
type packets struct {
	count int
	head  []byte // of a length, what has come of it
	body  int64  // of the packet under way, what is still to come
}

func (c *packets) add(p []byte) {
	for len(p) > 0 {
		if c.body > 0 {
			n := min(c.body, int64(len(p)))
			c.body -= n
			p = p[n:]
			continue
		}
		n := min(4-len(c.head), len(p))
		c.head, p = append(c.head, p[:n]...), p[n:]
		if len(c.head) == 4 {
			c.count++
			c.body = int64(binary.BigEndian.Uint32(c.head))
			c.head = c.head[:0]
		}
	}
}
