package sftp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/cpu"

	"github.com/atocore/atobackupd/internal/failure"
)

// dialSSH connects to one host with the ssh of this program and starts its sftp
// subsystem. ctx bounds all of it, and must end when that is done.
func dialSSH(ctx context.Context, cfg Config, host string) (link, error) {
	keys, err := readKnownHosts(cfg.KnownHosts, cfg.address(host), cfg)
	if errors.Is(err, ErrHostKeyUnknown) {
		err = cmp.Or(answers(ctx, cfg.address(host)), err)
	}
	if err != nil {
		return link{}, err
	}
	signers, err := loadSigners(ctx, cfg)
	if err != nil {
		return link{}, err
	}
	sshConfig := &ssh.ClientConfig{
		User:              userName(cfg),
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(signers)},
		HostKeyCallback:   keys.check,
		HostKeyAlgorithms: keys.algorithms(),
	}
	sshConfig.Ciphers = ciphers()
	conn, client, err := handshake(ctx, cfg.address(host), sshConfig)
	if err != nil {
		return link{}, classifyHandshake(err, keys, sshConfig.User, cfg)
	}
	refusal := func(err error) error {
		if conn.ended.Load() || ctx.Err() != nil {
			return err
		}
		return noSFTP(err) // for the connection is sound
	}
	l, err := openSubsystem(ctx, conn, client)
	if err != nil {
		err = refusal(err)
		conn.Close()
		return link{}, err
	}
	l.kill = func() { conn.Close() }
	if isOpenSSH(client) {
		l.another = func() (link, func(), error) { return anotherSubsystem(conn, client) }
	}
	l.refusal = refusal
	l.keepAlive = func(w *watch) { keepAlive(client, conn, w, cfg.KeepAlive) }
	return l, nil
}

// answers returns why nobody takes a connection. A machine that is asleep is that
// first, also under a name that nobody has trusted yet. No word is said on it.
func answers(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}

// handshake returns an authenticated connection. The end of ctx ends it also
// while the peer says nothing.
func handshake(ctx context.Context, address string, sshConfig *ssh.ClientConfig) (*timedConn, *ssh.Client, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	conn := &timedConn{Conn: raw, begun: time.Now()}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, address, sshConfig)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, ssh.NewClient(c, channels, requests), nil
}

// classifyHandshake tells a wrong key of either side from a peer that is none.
func classifyHandshake(err error, keys *hostKeys, user string, cfg Config) error {
	var none *ssh.AlgorithmNegotiationError
	switch text := err.Error(); {
	case keys.refused != nil:
		return keys.refused
	case errors.As(err, &none) && strings.Contains(text, "host key") && len(keys.known) == 0:
		return keys.uncertified("it has no certificate")
	case errors.As(err, &none) && strings.Contains(text, "host key"):
		return keys.changed("none of the types in " + cfg.KnownHosts)
	case errors.As(err, &none):
		return &failure.Error{
			Kind: failure.Other, Err: fmt.Errorf("no algorithm in common: %w", err),
			Hint: "update the server there, or use transport = \"openssh\", whose ssh_config can allow older " +
				"algorithms",
		}
	case strings.Contains(text, "unable to authenticate"), strings.Contains(text, "Too many authentication failures"):
		return &failure.Error{
			Kind: failure.Auth, Err: fmt.Errorf("permission denied (publickey) for user %s", user),
			Hint: authHint,
		}
	}
	return err
}

// isOpenSSH reports whether the server is one that is known to refuse politely what
// it does not allow, as a second session.
func isOpenSSH(client *ssh.Client) bool {
	return strings.HasPrefix(string(client.ServerVersion()), "SSH-2.0-OpenSSH")
}

// openSubsystem starts SFTP on an authenticated connection until ctx ends.
func openSubsystem(ctx context.Context, conn net.Conn, client *ssh.Client) (link, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		return link{}, err
	}
	return requestSubsystem(session)
}

// anotherSubsystem starts one more SFTP server. Until settled is called, its end is
// not the end of the connection.
func anotherSubsystem(conn net.Conn, client *ssh.Client) (l link, settled func(), err error) {
	session, err := client.NewSession()
	if err != nil {
		return link{}, nil, err
	}
	if l, err = requestSubsystem(session); err != nil {
		session.Close()
		return link{}, nil, err
	}
	var whole atomic.Bool
	l.kill = func() {
		if whole.Load() {
			conn.Close() // only this unblocks what waits in the kernel
		} else {
			session.Close()
		}
	}
	return l, func() { whole.Store(true) }, nil
}

func requestSubsystem(session *ssh.Session) (link, error) {
	in, err := session.StdinPipe()
	if err != nil {
		return link{}, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return link{}, err
	}
	return link{Reader: out, WriteCloser: in}, session.RequestSubsystem("sftp")
}

// keepAlive asks a silent peer for a sign of life every interval, and breaks w
// off when there was none for three of them. Any byte is a sign of life. Only
// the asking can block, in a full socket, so the watching is done elsewhere.
func keepAlive(client *ssh.Client, conn *timedConn, w *watch, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var asking atomic.Bool
	for {
		select {
		case <-w.stopped:
			return
		case <-tick.C:
		}
		if conn.silence() > lostAfter*interval {
			w.breakOff(fmt.Errorf("no sign of life for %v", lostAfter*interval))
			return
		}
		if asking.CompareAndSwap(false, true) {
			go func() {
				defer asking.Store(false)
				// The answer is the sign of life, also one that says no.
				_, _, _ = client.SendRequest("keepalive@openssh.com", true, nil)
			}()
		}
	}
}

// timedConn knows when its peer was last heard, and whether it has gone.
type timedConn struct {
	net.Conn
	begun time.Time
	heard atomic.Int64 // time.Duration since begun, which knows no clock steps
	ended atomic.Bool  // nothing can be read any more
}

func (c *timedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.begun)))
	}
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}

func (c *timedConn) silence() time.Duration {
	return time.Since(c.begun) - time.Duration(c.heard.Load())
}

// loadSigners returns the keys to log in with: the identity file's, or those of
// the agent, which answers until ctx ends.
func loadSigners(ctx context.Context, cfg Config) (func() ([]ssh.Signer, error), error) {
	if cfg.IdentityFile != "" {
		signer, err := readIdentity(cfg.IdentityFile)
		if err != nil {
			return nil, err
		}
		return func() ([]ssh.Signer, error) { return []ssh.Signer{signer}, nil }, nil
	}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, &failure.Error{
			Kind: failure.Config, Err: errors.New(
				"no key to log in with: identity_file is empty and SSH_AUTH_SOCK is not set",
			),
			Hint: "set identity_file",
		}
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, &failure.Error{
			Kind: failure.Config, Err: fmt.Errorf("ssh agent: %w", err),
			Hint: "set identity_file or start the agent",
		}
	}
	// Also when the agent waits for somebody to touch a key, and nobody is there.
	context.AfterFunc(ctx, func() { conn.Close() })
	return agent.NewClient(conn).Signers, nil
}

func readIdentity(path string) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("identity_file: %w", err),
			Hint: "put it back, or let atobackupd init make one"}
	}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, &failure.Error{
			Kind: failure.Config, Err: fmt.Errorf(
				"identity_file %s has a passphrase, and nobody is here to type it", path,
			),
			Hint: "load it into an ssh-agent and leave identity_file empty, or use a key without one",
		}
	}
	if err != nil {
		return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("identity_file %s: %w", path, err)}
	}
	return signer, nil
}

func userName(cfg Config) string {
	if cfg.User != "" {
		return cfg.User
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}

// ciphers are those of the SSH library, the fastest on this processor first: AES
// in hardware moves half as much again as ChaCha20, without it far less.
func ciphers() []string {
	const chacha = ssh.CipherChaCha20Poly1305
	aes := []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	if hasAES() {
		return append(aes, chacha, ssh.CipherAES128CTR, ssh.CipherAES256CTR)
	}
	return append([]string{chacha}, append(aes, ssh.CipherAES128CTR, ssh.CipherAES256CTR)...)
}

func hasAES() bool {
	switch runtime.GOARCH {
	case "amd64":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ
	case "arm64":
		return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	}
	return false
}
