// Package notify tells people and other machines how backups stand: messages
// through the many services of shoutrrr or a command (message.go), kept and sent
// again where an address does not take them (outbox.go), and heartbeats after the
// convention of healthchecks.io (heartbeat.go).
//
// The addresses of both hold secrets. No error of this package and nothing that
// it logs contains one: see redact.
package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

// sendTimeout bounds one message to one address. Some of shoutrrr's services
// have no timeout of their own.
const sendTimeout = 30 * time.Second

// address is one place that messages go to.
type address struct {
	label   string // for people: its number and its scheme
	key     string // tells it from others, in this process and the next
	secrets redactor
	channel channel
	// busy holds while a message is on its way. A service that hangs cannot be
	// stopped, so it gets no second message to hang on.
	busy *atomic.Bool
}

// parse makes the n-th address (from 1) ready without contacting anybody.
func parse(n int, raw string) (*address, error) {
	scheme, _, _ := strings.Cut(raw, "://")
	service := shoutrrr(raw)
	a := &address{label: fmt.Sprintf("address %d (%s)", n, scheme), secrets: newRedactor(raw), key: keyOf(raw),
		channel: service,
		busy:    new(atomic.Bool)}
	// A panic in one of thirty services must not end the daemon.
	err := protect(func() error {
		_, err := service.service()
		return err
	})
	if err != nil {
		return nil, a.failed(err)
	}
	return a, nil
}

// keyOf tells an address from others without its secrets.
func keyOf(raw string) string {
	sum := sha256.Sum256([]byte(raw))
	return hex.EncodeToString(sum[:8])
}

// Parse reads shoutrrr addresses, and a command that may be empty, without
// contacting anybody. Its error names all that cannot be used, by their number
// and not by their text.
func Parse(addresses, argv []string) (*Outbox, error) {
	o := &Outbox{}
	var errs []error
	for i, raw := range addresses {
		a, err := parse(i+1, raw)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		o.addresses = append(o.addresses, a)
	}
	if len(errs) > 0 {
		return nil, &failure.Error{Op: "notify", Kind: failure.Config, Err: errors.Join(errs...),
			Hint: "compare it with shoutrrr's page on that service"}
	}
	if len(argv) > 0 {
		o.addresses = append(o.addresses, &address{label: "command " + argv[0], key: keyOf(strings.Join(argv, "\x00")),
			channel: command(argv),
			busy:    new(atomic.Bool)})
	}
	return o, nil
}

// ReadFile reads addresses from a file, one a line; empty lines and those that
// begin with "#" are left out.
func ReadFile(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &failure.Error{Op: "notify", Subject: path, Kind: failure.Config, Err: err}
	}
	var list []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list, lines.Err()
}

// send delivers one message, or gives up when ctx is done or after sendTimeout.
func (a *address) send(ctx context.Context, m Message) error {
	if !a.busy.CompareAndSwap(false, true) {
		return a.failed(errors.New("the message before this one is still on its way"))
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		a.busy.Store(false)
		return a.failed(err)
	}
	done := make(chan error, 1) // buffered: the sender outlives a caller that gave up
	go func() {
		err := protect(func() error { return a.channel.deliver(ctx, m) })
		a.busy.Store(false) // before the answer: the next message may follow at once
		done <- err
	}()
	select {
	case err := <-done:
		return a.failed(err)
	case <-ctx.Done():
		return a.failed(fmt.Errorf("no answer: %w", ctx.Err()))
	}
}

// failed names the address in an error, and takes the secrets out of it. What
// is left is text: an error that can be unwrapped would reveal them.
func (a *address) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s", a.label, a.secrets.clean(err))
}

// protect turns a panic into an error.
func protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}
