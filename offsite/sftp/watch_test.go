package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/offsite"
)

// However a stream is cut up on its way, its packets are counted right.
func TestPacketsAreCounted(t *testing.T) {
	stream := []byte{0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 1, 0}
	stream = append(stream, make([]byte, 256)...)
	stream = append(stream, 0, 0, 0, 5, 'h', 'a', 'l', 'f')
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var c packets
		for rest := stream; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 9))
			c.add(rest[:n])
			rest = rest[n:]
		}
		if c.count != 4 || c.body != 1 {
			t.Fatalf("%d packets with %d bytes to come, want 4 with 1", c.count, c.body)
		}
	}
}

// request is a packet of five bytes.
var request = []byte{0, 0, 0, 1, 'r'}

// pipeWatch watches one end of a pipe on which writing waits for a reader.
func pipeWatch(timeout time.Duration) (*watch, net.Conn) {
	here, there := net.Pipe()
	w := newWatch(link{Reader: here, WriteCloser: here, kill: func() { here.Close() }}, timeout)
	w.start()
	return w, there
}

// A write that nobody takes ends in time, as one that waits in the kernel does.
func TestBlockedWriteEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pipeWatch(time.Minute)
		begun := time.Now()
		if _, err := w.Write(request); err == nil {
			t.Error("the write succeeded")
		}
		if waited := time.Since(begun); waited <= time.Minute || waited > 75*time.Second {
			t.Errorf("ended after %v", waited)
		}
		if w.broken() == nil {
			t.Error("there is no cause")
		}
	})
}

// Each answer gives the next one the whole time again, and a connection on which
// nothing is asked may be silent for as long as it likes.
func TestAnswersKeepTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, there := pipeWatch(time.Minute)
		go func() {
			for buf := make([]byte, 2*len(request)); ; {
				if _, err := io.ReadFull(there, buf); err != nil {
					return
				}
				for range 2 {
					time.Sleep(50 * time.Second)
					there.Write(request)
				}
			}
		}()
		for range 3 {
			for range 2 {
				if _, err := w.Write(request); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.ReadFull(w, make([]byte, 2*len(request))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
			if err := w.broken(); err != nil {
				t.Fatal(err)
			}
		}
		w.breakOff(errClosed)
		there.Close()
	})
}

// The limit is one for all Puts of a Remote, and a cancelled one does not wait
// for its turn.
func TestBandwidthLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := offsite.NewLimiter(1 << 20)
		begun := time.Now()
		done := make(chan error)
		for range 2 {
			go func() {
				n, err := io.Copy(io.Discard, &source{ctx: t.Context(), src: random(5 << 20), limit: limit})
				if n != 5<<20 {
					err = fmt.Errorf("%d bytes, %w", n, err)
				}
				done <- err
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took < 9500*time.Millisecond || took > 10*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := &source{ctx: ctx, src: random(1 << 30), limit: offsite.NewLimiter(1000)}
		begun = time.Now()
		if _, err := io.Copy(io.Discard, s); err == nil || !errors.Is(s.err, context.DeadlineExceeded) ||
			time.Since(begun) > time.Second {
			t.Errorf("after %v: %v, %v", time.Since(begun), err, s.err)
		}
	})
}
