package sftp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// hostile speaks just enough of the protocol for a directory to be listed, and
// answers each READDIR by write.
type hostile struct {
	net.Conn
	names func(h *hostile, id uint32) error
}

const (
	fxpInit, fxpVersion  = 1, 2
	fxpOpendir, fxpClose = 11, 4
	fxpReaddir           = 12
	fxpLstat, fxpStat    = 7, 17
	fxpStatus, fxpHandle = 101, 102
	fxpAttrs             = 105
)

func (h *hostile) serve() {
	for {
		var head [5]byte
		if _, err := io.ReadFull(h, head[:]); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[:])-1)
		if _, err := io.ReadFull(h, rest); err != nil {
			return
		}
		var err error
		id := binary.BigEndian.Uint32(rest)
		switch head[4] {
		case fxpInit:
			err = h.send(fxpVersion, []byte{0, 0, 0, 3})
		case fxpOpendir:
			err = h.answer(fxpHandle, id, 0, 0, 0, 1, 'h')
		case fxpLstat, fxpStat:
			err = h.answer(fxpAttrs, id, 0, 0, 0, 4, 0, 0, 0o100, 0o700&0xff) // permissions alone: a directory
		case fxpReaddir:
			err = h.names(h, id)
		default:
			err = h.answer(fxpStatus, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		}
		if err != nil {
			return
		}
	}
}

func (h *hostile) answer(kind byte, id uint32, body ...byte) error {
	return h.send(kind, append(binary.BigEndian.AppendUint32(nil, id), body...))
}

func (h *hostile) send(kind byte, body []byte) error {
	_, err := h.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), kind), body...))
	return err
}

// hundred is an answer of that many names of a length.
func hundred(length int) []byte {
	body := []byte{0, 0, 0, 100}
	for i := range 100 {
		name := strings.Repeat("n", length-2) + string(rune('a'+i/10)) + string(rune('a'+i%10))
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(name))), name...)
		body = append(body, 0, 0, 0, 0, 0, 0, 0, 0) // no line for people, no attributes
	}
	return body
}

// list lists a directory of a server that answers so.
func list(t *testing.T, ctx context.Context, names func(h *hostile, id uint32) error) error {
	t.Helper()
	here, there := net.Pipe()
	var served sync.WaitGroup
	served.Go((&hostile{there, names}).serve)
	cfg := Config{Hosts: []string{"there"}, Path: "/vault", OpTimeout: time.Minute}
	r, err := newRemote(ctx, "there", link{Reader: here, WriteCloser: here, kill: func() { here.Close() }}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { r.Close(); there.Close(); served.Wait() }()
	_, err = r.List(ctx, ".")
	return err
}

func TestEndlessListing(t *testing.T) {
	for what, length := range map[string]int{"short names": 8, "long ones": 250} {
		t.Run(what, func(t *testing.T) {
			body, sent := hundred(length), 0
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			err := list(t, t.Context(), func(h *hostile, id uint32) error {
				sent += 100
				return h.answer(typeName, id, body...)
			})
			runtime.ReadMemStats(&after)
			if !errors.Is(err, offsite.ErrEndless) || failure.KindOf(err) != failure.Other {
				t.Errorf("%v (kind %d)", err, failure.KindOf(err))
			}
			if sent > offsite.MaxEntries+1000 {
				t.Errorf("%d names were taken", sent)
			}
			t.Logf("%d names, %d MiB of heap from the system", sent, (after.HeapSys-before.HeapSys)>>20)
		})
	}
}

// A server that keeps the connection alive with a name now and then holds nobody.
func TestListingThatDrips(t *testing.T) {
	for what, drip := range map[string]func(h *hostile, id uint32) error{
		"a name at a time": func(h *hostile, id uint32) error {
			time.Sleep(30 * time.Second)
			return h.answer(typeName, id, 0, 0, 0, 1, 0, 0, 0, 1, '.', 0, 0, 0, 0, 0, 0, 0, 0)
		},
		"a byte at a time": func(h *hostile, id uint32) error {
			if _, err := h.Write([]byte{0, 3, 0, 0, typeName}); err != nil {
				return err
			}
			for {
				time.Sleep(30 * time.Second)
				if _, err := h.Write([]byte{0}); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				err := list(t, context.Background(), drip)
				if failure.KindOf(err) != failure.Unreachable {
					t.Errorf("%v (kind %d)", err, failure.KindOf(err))
				}
				if took := time.Since(begun); took > offsite.ListTimeout+time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
