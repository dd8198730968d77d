package sftp

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

func TestBadConfigIsRefused(t *testing.T) {
	good := Config{Name: "laptop", Hosts: []string{"laptop.local"}, KnownHosts: "/etc/known_hosts", Path: "vault"}
	if _, err := good.withDefaults(); err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func(*Config){
		"no hosts":           func(c *Config) { c.Hosts = nil },
		"host name is empty": func(c *Config) { c.Hosts = []string{""} },
		"\"-oProxyCommand=":  func(c *Config) { c.Hosts = []string{"good", "-oProxyCommand=touch"} },
		"\"-lroot\"":         func(c *Config) { c.User = "-lroot" },
		"\"a b\"":            func(c *Config) { c.Hosts = []string{"a b"} },
		"\"a,b\"":            func(c *Config) { c.Hosts = []string{"a,b"} },
		"path \"\"":          func(c *Config) { c.Path = "" },
		"knows no ~":         func(c *Config) { c.Path = "~/vault" },
		"port 65536":         func(c *Config) { c.Port = 65536 },
		"port -1":            func(c *Config) { c.Port = -1 },
		"transport \"rsh\"":  func(c *Config) { c.Transport = "rsh" },
		"bandwidth limit":    func(c *Config) { c.BandwidthLimit = -1 },
		"no known_hosts":     func(c *Config) { c.KnownHosts = "" },
	} {
		c := good
		change(&c)
		_, err := Dial(context.Background(), c)
		if failure.KindOf(err) != failure.Config || !strings.Contains(err.Error(), says) ||
			!strings.Contains(err.Error(), "laptop") {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// What OpenSSH's client says, as it was seen, and what that means.
func TestSSHMessages(t *testing.T) {
	exit := exec.Command("sh", "-c", "exit 255").Run()
	for said, want := range map[string]failure.Kind{
		"backup@laptop: Permission denied (publickey).":                                  failure.Auth,
		"Received disconnect from 10.0.0.2 port 22:2: Too many authentication failures":  failure.Auth,
		"No ED25519 host key is known for laptop. Host key verification failed.":         failure.HostKey,
		"WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! Host key verification failed.": failure.HostKey,
		"ssh: Could not resolve hostname laptop.local: Name or service not known":        failure.Unreachable,
		"ssh: connect to host laptop port 22: Connection timed out":                      failure.Unreachable,
		"ssh: connect to host laptop port 22: Connection refused":                        failure.Unreachable,
		"ssh: connect to host laptop port 22: No route to host":                          failure.Unreachable,
		"Connection closed by UNKNOWN port 65535":                                        failure.Unreachable,
		"command-line: line 0: Bad configuration option: nosuch":                         failure.Config,
		"subsystem request failed on channel 0":                                          failure.Other,
	} {
		err := explainDial("laptop", classifySSH(context.Background(), said, exit, io.EOF, Config{}))
		if err.Kind != want || !strings.Contains(err.Error(), said) {
			t.Errorf("%q: kind %d, want %d: %v", said, err.Kind, want, err)
		}
	}
	err := classifySSH(context.Background(), "", errors.New("exit status 1"), io.EOF, Config{})
	if !strings.Contains(err.Error(), "no SFTP there") {
		t.Errorf("a session that ended by itself: %v", err)
	}
}

func TestTailIsShortAndHarmless(t *testing.T) {
	said := &tail{}
	io.Copy(said, strings.NewReader(strings.Repeat("a line before\n", 10_000)))
	io.WriteString(said, "@@@@@@\n@ \x1b[31mWARNING\x07\r\n@@@@@@\nthe end\n")
	got := said.lines()
	if !strings.HasSuffix(got, "@  [31mWARNING the end") || len(got) > tailSize ||
		strings.ContainsAny(got, "\x1b\x07\n") {
		t.Errorf("…%q", got[max(0, len(got)-60):])
	}
}
