package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Signal is what a heartbeat says.
type Signal string

// The signals. Work that was skipped sends none: it is no success, and it is
// the absence of a success that the other side waits for.
const (
	Start   Signal = "/start"
	Success Signal = ""
	Fail    Signal = "/fail"
)

const (
	pingTimeout = 10 * time.Second
	pingRetries = 3
	longestBody = 10_000 // what healthchecks.io keeps of one, in bytes
)

// Heartbeats calls the addresses of legs. Nobody waits for it.
type Heartbeats struct {
	pulses map[string]*pulse
	heard  func(key string, err error)
	wg     sync.WaitGroup
	cancel context.CancelFunc

	mu    sync.Mutex // guards what follows: a job may end after Stop
	ended bool
}

// pulse is one leg's address and the signals that wait for it.
type pulse struct {
	leg     string
	address string
	secrets redactor
	waiting chan Beat
}

// key tells the address from others without its secrets.
func (p *pulse) key() string { return keyOf(p.leg + "\x00" + p.address) }

// Keys returns the keys of the addresses.
func (h *Heartbeats) Keys() (keys []string) {
	for _, p := range h.pulses {
		keys = append(keys, p.key())
	}
	return keys
}

// Beat is one signal of a run.
type Beat struct {
	Signal Signal
	RunID  string // ties the signals of one run together; "" for none
	Body   string // why it failed, how long it took, what was logged last
}

// StartHeartbeats takes the address of each leg and begins to work. heard is told
// how each address, by its key, took a signal: err is nil when it did, and holds no
// secrets. The caller ends it with Stop.
func StartHeartbeats(addresses map[string]string, heard func(key string, err error)) *Heartbeats {
	ctx, cancel := context.WithCancel(context.Background())
	h := &Heartbeats{pulses: make(map[string]*pulse), heard: heard, cancel: cancel}
	for leg, address := range addresses {
		p := &pulse{leg: leg, address: address, secrets: newRedactor(address), waiting: make(chan Beat, 16)}
		h.pulses[leg] = p
		h.wg.Go(func() { h.work(ctx, p) })
	}
	return h
}

// Beat sends a leg's signal, where that leg has an address, and returns at once.
func (h *Heartbeats) Beat(leg string, b Beat) {
	p := h.pulses[leg]
	h.mu.Lock()
	defer h.mu.Unlock()
	if p == nil || h.ended {
		return
	}
	select {
	case p.waiting <- b:
	default:
		h.heard(p.key(), fmt.Errorf("heartbeat %s: too many are waiting, one is lost", leg))
	}
}

// Stop lets what waits arrive until ctx is done, and ends.
func (h *Heartbeats) Stop(ctx context.Context) error {
	h.mu.Lock()
	if !h.ended {
		for _, p := range h.pulses {
			close(p.waiting)
		}
	}
	h.ended = true
	h.mu.Unlock()
	done := make(chan struct{})
	go func() {
		h.wg.Wait()
		close(done)
	}()
	defer h.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("heartbeats: %w", ctx.Err())
	}
}

func (h *Heartbeats) work(ctx context.Context, p *pulse) {
	for b := range p.waiting {
		err := h.deliver(ctx, p, b)
		if ctx.Err() != nil {
			return // it was cut short, which says nothing about the address
		}
		if err != nil {
			err = fmt.Errorf("heartbeat %s: %s", p.leg, p.secrets.clean(err))
		}
		h.heard(p.key(), err)
	}
}

// deliver sends one signal, again after a pause when that may help, unless a
// newer one waits: that says more.
func (h *Heartbeats) deliver(ctx context.Context, p *pulse, b Beat) error {
	for attempt := 0; ; attempt++ {
		err := ping(ctx, p.address, b)
		var refused *refusedError
		if err == nil || errors.As(err, &refused) || attempt == pingRetries || len(p.waiting) > 0 {
			return err
		}
		select {
		case <-time.After([]time.Duration{2 * time.Second, 10 * time.Second, time.Minute}[attempt]):
		case <-ctx.Done():
			return err
		}
	}
}

// refusedError is an answer that the same request will get again.
type refusedError struct{ status string }

func (e *refusedError) Error() string { return "the server answered " + e.status }

func ping(ctx context.Context, address string, b Beat) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if b.Signal != Success { // the query of an address stays behind the path
		u = u.JoinPath(string(b.Signal))
	}
	if b.RunID != "" {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&rid="+url.QueryEscape(b.RunID), "&")
	}
	body := b.Body
	if len(body) > longestBody {
		body = strings.ToValidUTF8(body[:longestBody], "")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "atobackupd")
	request.Header.Set("Content-Type", "text/plain; charset=utf-8")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// Read to its end, a short answer lets the connection be used again.
	_, _ = io.CopyN(io.Discard, response.Body, 4096)
	switch {
	case response.StatusCode < 300:
		return nil
	case response.StatusCode >= 500, response.StatusCode == http.StatusTooManyRequests,
		response.StatusCode == http.StatusRequestTimeout:
		return errors.New("the server answered " + response.Status)
	}
	return &refusedError{response.Status}
}
