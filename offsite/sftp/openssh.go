package sftp

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/atocore/atobackupd/internal/failure"
)

// stopGrace is how long the ssh program has to go by itself before it is killed.
const stopGrace = 2 * time.Second

// startSSH runs the ssh program with SFTP on its standard input and output. It
// reads ssh_config, so jump hosts, agents and hardware keys work as they do by
// hand; it never asks anything. ctx bounds the start, not the life.
func startSSH(ctx context.Context, cfg Config, host string) (link, error) {
	said := &tail{}
	cmd := exec.Command("ssh", sshArguments(cfg, host)...)
	cmd.Stderr = said
	// A group of its own, so that a jump host's ssh goes with it and an
	// interrupt at the terminal reaches only us: we still clean up over it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = stopGrace
	in, err := cmd.StdinPipe()
	if err != nil {
		return link{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return link{}, err
	}
	if err := cmd.Start(); err != nil {
		return link{}, &failure.Error{
			Kind: failure.Config, Err: err, Hint: "install openssh-client or use transport = \"builtin\"",
		}
	}
	p := &process{cmd: cmd}
	p.wait = sync.OnceValue(p.reap)
	kill := sync.OnceFunc(func() {
		p.signal()
		in.Close()
		out.Close()
		go p.wait()
	})
	refusal := func(err error) error {
		// What it says is complete once it has gone, which it does by itself
		// when it is the reason.
		timer := time.AfterFunc(stopGrace, p.signal)
		defer timer.Stop()
		in.Close()
		exit := p.wait()
		return classifySSH(ctx, said.lines(), exit, err, cfg)
	}
	return link{Reader: out, WriteCloser: in, kill: kill, last: said.lines, refusal: refusal}, nil
}

// process is the running ssh program.
type process struct {
	cmd  *exec.Cmd
	wait func() error // returns how it ended; once for all who ask

	mu   sync.Mutex
	gone bool // its id may be another's by now
}

func (p *process) reap() error {
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	return err
}

// signal kills it and what it started.
func (p *process) signal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// sshArguments makes the command line; host and user were checked not to look
// like options.
func sshArguments(cfg Config, host string) []string {
	seconds := func(d time.Duration) string { return strconv.Itoa(max(1, int(d.Seconds()))) }
	options := []string{
		"BatchMode=yes", "StrictHostKeyChecking=yes", "ClearAllForwardings=yes",
		"PermitLocalCommand=no", "RequestTTY=no", "ControlPersist=no",
		"ConnectTimeout=" + seconds(cfg.DialTimeout),
		"ServerAliveInterval=" + seconds(cfg.KeepAlive),
		"ServerAliveCountMax=" + strconv.Itoa(lostAfter),
	}
	if cfg.KnownHosts != "" {
		options = append(options, "UserKnownHostsFile="+cfg.KnownHosts, "GlobalKnownHostsFile=/dev/null")
	}
	if cfg.IdentityFile != "" {
		options = append(options, "IdentitiesOnly=yes")
	}
	args := []string{"-a", "-x", "-T"}
	if cfg.sshConfigFile != "" {
		args = append(args, "-F", cfg.sshConfigFile)
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	if cfg.IdentityFile != "" {
		args = append(args, "-i", cfg.IdentityFile)
	}
	if cfg.User != "" {
		args = append(args, "-l", cfg.User)
	}
	if cfg.Port != 0 {
		args = append(args, "-p", strconv.Itoa(cfg.Port))
	}
	return append(args, "-s", "--", host, "sftp")
}

// classifySSH reads what the ssh program said. It exits with 255 for its own
// failures and otherwise with what the other side's command ended with.
func classifySSH(ctx context.Context, said string, exit, err error, cfg Config) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var code *exec.ExitError
	own := errors.As(exit, &code) && code.ExitCode() == 255
	if said != "" {
		err = errors.New(said)
	}
	has := func(texts ...string) bool {
		for _, text := range texts {
			if strings.Contains(said, text) {
				return true
			}
		}
		return false
	}
	switch {
	case has("REMOTE HOST IDENTIFICATION HAS CHANGED"):
		return &failure.Error{
			Kind: failure.HostKey, Err: fmt.Errorf("HOST KEY CHANGED: %w", err),
			Hint: "only if that machine was reinstalled: remove the old key, and " + cfg.trustHint(),
		}
	case has("Host key verification failed", "No matching host key", "no matching host key"):
		return &failure.Error{Kind: failure.HostKey, Err: err, Hint: cfg.trustHint()}
	case has("Permission denied", "Too many authentication failures"):
		return &failure.Error{
			Kind: failure.Auth, Err: err,
			Hint: authHint,
		}
	case has("Bad configuration option", "Bad owner or permissions", "bad permissions", "command-line: line"):
		return &failure.Error{Kind: failure.Config, Err: err}
	case has("subsystem request failed"), !own:
		return noSFTP(err)
	}
	return err
}

// tail keeps the last of what a program says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailSize is enough for the loudest warning of ssh.
const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > tailSize {
		t.text = append([]byte(nil), t.text[len(t.text)-tailSize:]...)
	}
	return len(p), nil
}

// lines returns it as one line, without the decoration of warnings and without
// the control characters that a stranger's banner might hold for a terminal.
func (t *tail) lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.text)) {
		if line = strings.TrimSpace(strings.Map(printable, line)); strings.Trim(line, "@") != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}
