package sftp

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

// The transports.
const (
	Builtin = "builtin" // ssh spoken by this program
	OpenSSH = "openssh" // the ssh program: ssh_config, ProxyJump, hardware keys
)

// Config says how to reach a vault over SFTP. Hosts and Path are required; the
// zero value of everything else is a sensible default.
type Config struct {
	Name string // the target's name, for messages and hints

	Hosts        []string // names or addresses of one machine; the first that lets us in is used
	Port         int      // default 22 (with OpenSSH: what ssh_config says)
	User         string   // default: the current user (with OpenSSH: what ssh_config says)
	IdentityFile string   // an unencrypted private key; empty: the agent at SSH_AUTH_SOCK
	TrustHint    string   // how to accept a host key, where no target is configured yet
	KnownHosts   string   // host keys to trust (with OpenSSH: empty means ssh's own files)
	Path         string   // the vault's root there, absolute or relative to the account's directory
	Transport    string   // Builtin (default) or OpenSSH

	BandwidthLimit int64 // bytes a second that all Puts together may send; 0: no limit
	AppendOnly     bool  // only ever add: publish by hard link, never remove or rename

	DialTimeout time.Duration // for each host, from the first packet to a session; default 10s
	KeepAlive   time.Duration // how often a silent peer is asked for a sign of life; three in vain end it; default 15s
	OpTimeout   time.Duration // a request without any answer for this long ends the connection; default 2m

	sshConfigFile string // for tests: ssh -F
}

// lostAfter is how many keepalives go unanswered before a peer is given up.
const lostAfter = 3

// withDefaults checks c and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Transport, Builtin)
	setDefault(&c.DialTimeout, 10*time.Second)
	setDefault(&c.KeepAlive, 15*time.Second)
	setDefault(&c.OpTimeout, 2*time.Minute)
	if c.Transport == Builtin {
		setDefault(&c.Port, 22)
	}
	if err := c.check(); err != nil {
		return c, &failure.Error{Op: "sftp target", Subject: c.Name, Kind: failure.Config, Err: err}
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) check() error {
	switch {
	case len(c.Hosts) == 0:
		return errors.New("no hosts")
	case c.Path == "" || strings.ContainsRune(c.Path, 0):
		return fmt.Errorf("path %q is not usable", c.Path)
	case strings.HasPrefix(c.Path, "~"):
		return fmt.Errorf(
			"path %q: SFTP knows no ~; a path without a leading slash begins in the account's directory",
			c.Path,
		)
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("port %d is out of range", c.Port)
	case c.Transport != Builtin && c.Transport != OpenSSH:
		return fmt.Errorf("transport %q is neither %s nor %s", c.Transport, Builtin, OpenSSH)
	case c.BandwidthLimit < 0:
		return errors.New("the bandwidth limit is negative")
	case c.Transport == Builtin && c.KnownHosts == "":
		return errors.New("no known_hosts file")
	}
	// A name that begins with a dash would be an option of the ssh program,
	// and a comma or space would change a line of known_hosts.
	for _, word := range append([]string{c.User}, c.Hosts...) {
		if strings.HasPrefix(word, "-") || strings.ContainsFunc(word, unfit) {
			return fmt.Errorf("%q is no name of a host or user", word)
		}
	}
	for _, host := range c.Hosts {
		if host == "" {
			return errors.New("a host name is empty")
		}
	}
	return nil
}

func unfit(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(",@*?!#'\"\\", r) }

// trustHint says how to accept a host key.
func (c Config) trustHint() string {
	if c.TrustHint != "" {
		return c.TrustHint
	}
	name := c.Name
	if name == "" {
		name = "NAME"
	}
	return "compare its fingerprint on the machine itself, then run atobackupd target trust " + name
}
