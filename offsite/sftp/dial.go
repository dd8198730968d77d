package sftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
)

// Dial connects to the first of cfg.Hosts that lets us in. They are tried in
// order, each for cfg.DialTimeout at most, and passed over for whatever reason:
// a name may lead to somebody else's machine on another network, which is no
// harm because its host key gives it away. When none is left the error names
// every host's reason and is of the gravest kind among them: HostKey, Auth,
// another, and Unreachable only when that is all there was.
func Dial(ctx context.Context, cfg Config) (*Remote, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return firstHost(ctx, cfg, func(ctx context.Context, host string) (*Remote, error) {
		l, err := connect(ctx, cfg, host)
		if err != nil {
			return nil, err
		}
		return newRemote(ctx, host, l, cfg)
	})
}

// connect opens the transport to one host.
func connect(ctx context.Context, cfg Config, host string) (link, error) {
	if cfg.Transport == OpenSSH {
		return startSSH(ctx, cfg, host)
	}
	return dialSSH(ctx, cfg, host)
}

// firstHost returns what try returns for the first host for which it succeeds.
func firstHost[T any](ctx context.Context, cfg Config, try func(context.Context, string) (T, error)) (T, error) {
	var none T
	var failed []*failure.Error
	for _, host := range cfg.Hosts {
		one, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
		got, err := try(one, host)
		cancel()
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return none, &failure.Error{Op: "connect", Subject: cfg.address(host), Kind: kindOfEnd(ctx), Err: ctx.Err()}
		}
		e := explainDial(cfg.address(host), err)
		if e.Kind == failure.Config {
			e.Op, e.Subject = "connect", cfg.Name
			return none, e // the next host would say the same
		}
		failed = append(failed, e)
	}
	return none, gravest(cfg, failed)
}

// address is host:port for people, and the host alone where ssh_config may
// know the port.
func (c Config) address(host string) string {
	if c.Port == 0 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(c.Port))
}

// authHint is what to do where the key was refused.
const authHint = "add the public half of the key to the authorized_keys that sshd reads there for that account: " +
	"/etc/ssh/atobackup/authorized_keys, or the account's .ssh/authorized_keys"

// explainDial makes everything that has no better reason Unreachable: no answer,
// a refusal, a peer that speaks something else.
func explainDial(address string, err error) *failure.Error {
	e := &failure.Error{Subject: address, Kind: failure.Unreachable, Err: err}
	var known *failure.Error
	if errors.As(err, &known) {
		e.Kind, e.Err, e.Hint = known.Kind, known.Err, known.Hint
	}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Err = errors.New("no answer in time")
	}
	return e
}

// gravest joins what every host had to say.
func gravest(cfg Config, failed []*failure.Error) error {
	worst := failed[0]
	var reasons []string
	all := &hostsError{}
	for _, e := range failed {
		if gravity(e.Kind) > gravity(worst.Kind) {
			worst = e
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", e.Subject, e.Err))
		all.causes = append(all.causes, e.Err)
	}
	all.text = strings.Join(reasons, "; ")
	return &failure.Error{Op: "connect", Subject: cfg.Name, Kind: worst.Kind, Err: all, Hint: worst.Hint}
}

// gravity orders kinds by how little waiting helps.
func gravity(kind failure.Kind) int {
	switch kind {
	case failure.HostKey:
		return 3
	case failure.Auth:
		return 2
	case failure.Unreachable:
		return 0
	}
	return 1
}

// hostsError reads as one line and can be searched by errors.Is.
type hostsError struct {
	text   string
	causes []error
}

func (e *hostsError) Error() string   { return e.text }
func (e *hostsError) Unwrap() []error { return e.causes }

// noSFTP is about a peer that let us in and then did not speak SFTP.
func noSFTP(err error) error {
	return &failure.Error{
		Kind: failure.Other, Err: fmt.Errorf("no SFTP there: %w", err),
		Hint: "enable the sftp subsystem in its sshd_config",
	}
}
