package sftp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite"
)

// hostile speaks just enough of the protocol for a directory to be listed, and
// answers each READDIR by write.
type hostile struct {
	net.Conn
	names func(h *hostile, id uint32) error
	any   func(h *hostile, asked byte, id uint32) error // answers whatever else is asked, once connected; may be nil

	extensions []string // that it announces
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
		if h.any != nil && head[4] != fxpInit {
			if h.any(h, head[4], id) != nil {
				return
			}
			continue
		}
		switch head[4] {
		case fxpInit:
			version := []byte{0, 0, 0, 3}
			for _, extension := range h.extensions {
				for _, text := range []string{extension, "1"} {
					version = append(binary.BigEndian.AppendUint32(version, uint32(len(text))), text...)
				}
			}
			err = h.send(fxpVersion, version)
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
	served.Go((&hostile{Conn: there, names: names}).serve)
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

// Whatever a server answers, of whatever kind and length, is an error or an answer:
// it ends neither the process nor, with the patience of an operation, the time.
func TestServerThatAnswersAnything(t *testing.T) {
	const fxpData, fxpName, fxpExtendedReply = 103, 104, 201
	kinds := []byte{fxpStatus, fxpHandle, fxpData, fxpName, fxpAttrs, fxpExtendedReply, 0, 255}
	for seed := range provetest.Rounds(t, 400) {
		random := rand.New(rand.NewPCG(uint64(seed), 14))
		answer := func(h *hostile, asked byte, id uint32) error {
			if random.IntN(3) == 0 { // an answer that leads on
				switch asked {
				case fxpOpendir, 3:
					return h.answer(fxpHandle, id, 0, 0, 0, 1, 'h')
				case fxpLstat, fxpStat, 8:
					return h.answer(fxpAttrs, id, 0, 0, 0, 4, 0, 0, 0o100, 0o700&0xff)
				}
				return h.answer(fxpStatus, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
			}
			body := make([]byte, random.IntN(40))
			for i := range body {
				body[i] = byte(random.IntN(256) * random.IntN(2)) // many zeros: counts that are small
			}
			if random.IntN(20) == 0 {
				id += uint32(random.IntN(3))
			}
			return h.answer(kinds[random.IntN(len(kinds))], id, body...)
		}
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			var served sync.WaitGroup
			served.Go((&hostile{Conn: there, any: answer, extensions: []string{"statvfs@openssh.com",
				"fsync@openssh.com", "hardlink@openssh.com", "limits@openssh.com"}[:seed%5]}).serve)
			cfg := Config{Hosts: []string{"there"}, Path: "/vault", OpTimeout: time.Minute}
			link := link{Reader: here, WriteCloser: here, kill: func() { here.Close() }}
			defer func() { here.Close(); there.Close(); served.Wait() }()
			begun := time.Now()
			r, err := newRemote(t.Context(), "there", link, cfg)
			if err != nil {
				return
			}
			_, _ = r.List(t.Context(), "packs")
			_, _ = r.Stat(t.Context(), "vault.json")
			if f, err := r.Open(t.Context(), "vault.json"); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(f, 1<<20))
				f.Close()
			}
			_, _ = r.Put(t.Context(), "packs/x", strings.NewReader("content"))
			_ = r.Move(t.Context(), "packs/x", "packs/y")
			_ = r.Remove(t.Context(), "packs/y")
			_, _ = r.Free(t.Context())
			r.Close()
			if took := time.Since(begun); took > 2*offsite.ListTimeout {
				t.Errorf("seed %d: it took %v", seed, took)
			}
		})
	}
}
