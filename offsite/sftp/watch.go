package sftp

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/atocore/atobackupd/offsite"
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
	// another starts one more SFTP server on the connection. Its link ends with
	// this one, and this one with it once settled was called. It may be nil.
	another func() (l link, settled func(), err error)
}

// watch ends a link whose peer has stopped answering. A machine that went to
// sleep sends nothing that would end a TCP connection: a reader would wait
// forever and a writer for as long as the kernel retransmits, a quarter of an
// hour. The library that speaks SFTP has no deadlines, so they are kept here,
// under it, where every request and every answer passes.
type watch struct {
	link    link
	timeout time.Duration

	mu       sync.Mutex
	sent     packets         // requests; each gets exactly one answer
	got      packets         // answers
	quiet    time.Time       // when a request last began to wait, or an answer's bytes came
	answered time.Time       // when a request last began to wait, or an answer was whole
	bounds   map[*bound]bool // of the listings under way
	cause    error           // why the connection was ended
	stopped  chan struct{}
}

// wholeAnswer is how many times the timeout an answer may take when its bytes
// keep coming, one by one.
const wholeAnswer = 8

// bound is how far a listing may go.
type bound struct {
	names, bytes int64 // of w.got, in all
	exceeded     func()
}

// newWatch passes l on; from start on, a request may wait for timeout.
func newWatch(l link, timeout time.Duration) *watch {
	return &watch{link: l, timeout: timeout, bounds: make(map[*bound]bool), stopped: make(chan struct{})}
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
	waits := w.sent.count > w.got.count
	return waits && (now.Sub(w.quiet) > w.timeout || now.Sub(w.answered) > wholeAnswer*w.timeout)
}

// boundNames calls exceeded when more names come than one listing may have, until
// release. Listings at the same time count for each other.
func (w *watch) boundNames(exceeded func()) (release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &bound{
		// Of each entry the protocol sends attributes and a line for people too.
		names: w.got.names + offsite.MaxEntries, bytes: w.got.nameBytes + 8*offsite.MaxNames, exceeded: exceeded,
	}
	w.bounds[b] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.bounds, b)
	}
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

// broken returns why the connection was ended, or nil.
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
		w.answered = w.quiet
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
		before := w.got.count
		w.got.add(p[:n])
		if w.got.count > before {
			w.answered = w.quiet
		}
	}
	for b := range w.bounds {
		if w.got.names > b.names || w.got.nameBytes > b.bytes {
			b.exceeded()
		}
	}
	return n, err
}

// Close ends the stream of requests.
func (w *watch) Close() error { return w.link.Close() }

// packets counts the packets of an SFTP stream, each of which is a length of
// four bytes and so many bytes after it, and the names that directories were
// answered with.
type packets struct {
	count int
	head  []byte // what has come of a length, and then of typeIDCount
	body  int64  // of the packet under way, what is still to come

	names, nameBytes int64 // as the packets say that hold them
}

// An answer with names begins with its type, the request's number and theirs.
const (
	typeName    = 104
	typeIDCount = 1 + 4 + 4
)

func (c *packets) add(p []byte) {
	for len(p) > 0 {
		if c.body == 0 {
			n := min(4-len(c.head), len(p))
			c.head, p = append(c.head, p[:n]...), p[n:]
			if len(c.head) == 4 {
				c.count++
				c.body = int64(binary.BigEndian.Uint32(c.head))
				c.head = c.head[:0]
			}
			continue
		}
		n := min(c.body, int64(len(p)))
		if missing := min(typeIDCount-len(c.head), int(n)); missing > 0 {
			c.head = append(c.head, p[:missing]...)
			if len(c.head) == typeIDCount && c.head[0] == typeName {
				c.names += int64(binary.BigEndian.Uint32(c.head[5:]))
			}
		}
		if len(c.head) > 0 && c.head[0] == typeName {
			c.nameBytes += n
		}
		c.body -= n
		p = p[n:]
		if c.body == 0 {
			c.head = c.head[:0]
		}
	}
}
