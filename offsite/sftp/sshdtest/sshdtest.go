// Package sshdtest runs a real OpenSSH sshd on loopback for tests: the machine
// that a vault lies on, with its own host keys, one account and one client key.
// It can be stalled, cut off and given another host key.
//
// It needs Debian's openssh-server and, for the account and the privilege
// separation directory, root.
package sshdtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Options say what is served to whom.
type Options struct {
	// Root is the directory in which SFTP sessions begin; default: a new one.
	// It is given to User.
	Root string
	// User is the account; default: the current one. AppendOnly needs another
	// than root, for example "backup".
	User string
	// AppendOnly lets the account only add: the umask makes its files
	// read-only, and no request that changes what exists is answered. Make
	// packs/, snapshots/, incoming/ and trash/ with MakeVault.
	AppendOnly bool
	// NoSFTP leaves the subsystem out.
	NoSFTP bool
	// OneSession allows no second session on a connection.
	OneSession bool
}

// appendOnly is what an append-only account may ask for.
const appendOnly = " -u 0377 -p open,close,read,write,lstat,fstat,stat,opendir,readdir,realpath," +
	"statvfs,fsync,hardlink,limits"

// Server is a running sshd.
type Server struct {
	Host         string // 127.0.0.1
	Port         int
	User         string
	Dir          string // what is served
	IdentityFile string // the client's private key, which the account accepts
	KnownHosts   string // a file with the server's ed25519 key

	t    testing.TB
	opts Options
	home string // keys, configuration, log
	sshd *exec.Cmd
	gone chan struct{} // closed when sshd was reaped
	pids []int         // of the listener and of sessions that outlived one
}

// Start runs an sshd until the test ends. It fails the test if it cannot.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s := &Server{t: t, opts: opts, Host: "127.0.0.1", User: opts.User, Dir: opts.Root}
	if s.User == "" {
		u, err := user.Current()
		s.must(err)
		s.User = u.Username
	}
	// Not t.TempDir: the account must be able to pass through.
	home, err := os.MkdirTemp("", "sshdtest-")
	s.must(err)
	t.Cleanup(func() { os.RemoveAll(home) })
	s.home = home
	s.must(os.Chmod(home, 0o711))
	if s.Dir == "" {
		s.Dir = filepath.Join(home, "vault")
		s.must(os.Mkdir(s.Dir, 0o755))
	}
	s.give(s.Dir)
	s.makeKeys()
	t.Cleanup(s.Stop)
	s.listen()
	return s
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("sshd for the test: %v", err)
	}
}

// give makes a directory the account's own and lets it pass through the ones
// above, as far as they are temporary.
func (s *Server) give(dir string) {
	u, err := user.Lookup(s.User)
	s.must(err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if uid == os.Getuid() {
		return
	}
	s.must(os.Chown(dir, uid, gid))
	for up := filepath.Dir(dir); up != filepath.Dir(up) && up != os.TempDir(); up = filepath.Dir(up) {
		info, err := os.Stat(up)
		s.must(err)
		s.must(os.Chmod(up, info.Mode().Perm()|0o011))
	}
}

// MakeVault gives an existing directory to the account and makes in it the
// directories of a vault, which an append-only account cannot make.
func (s *Server) MakeVault(dir string) {
	s.give(dir)
	for _, name := range []string{"packs", "snapshots", "incoming", "trash"} {
		s.must(os.Mkdir(filepath.Join(dir, name), 0o755))
		s.give(filepath.Join(dir, name))
	}
}

func (s *Server) makeKeys() {
	s.IdentityFile = filepath.Join(s.home, "id_ed25519")
	s.keygen("ed25519", s.IdentityFile)
	public, err := os.ReadFile(s.IdentityFile + ".pub")
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.home, "authorized_keys"), public, 0o644))
	s.NewHostKey()
	s.KnownHosts = filepath.Join(s.home, "known_hosts")
}

// keygen makes a key pair without a passphrase.
func (s *Server) keygen(kind, path string) {
	out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", path).CombinedOutput()
	if err != nil {
		s.t.Fatalf("ssh-keygen (install openssh-client): %v: %s", err, out)
	}
}

// hostKeyKinds are the keys the server has.
var hostKeyKinds = []string{"ed25519", "ecdsa"}

// NewHostKey gives the server other host keys, as after a reinstallation. The
// file KnownHosts stays as it was.
func (s *Server) NewHostKey() {
	s.t.Helper()
	for _, kind := range hostKeyKinds {
		path := filepath.Join(s.home, "host_"+kind)
		os.Remove(path)
		os.Remove(path + ".pub")
		s.keygen(kind, path)
	}
	if s.sshd != nil {
		port := s.Port
		s.StopListening()
		s.start(port)
	}
}

// HostKeyLine returns the line of known_hosts for one of the server's keys:
// "ed25519" or "ecdsa".
func (s *Server) HostKeyLine(kind string) string {
	public, err := os.ReadFile(filepath.Join(s.home, "host_"+kind+".pub"))
	s.must(err)
	fields := strings.Fields(string(public))
	return fmt.Sprintf("[%s]:%d %s %s\n", s.Host, s.Port, fields[0], fields[1])
}

// listen starts sshd on a port that is free.
func (s *Server) listen() {
	s.t.Helper()
	for range 5 {
		l, err := net.Listen("tcp", s.Host+":0")
		s.must(err)
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if s.start(port) {
			s.must(os.WriteFile(s.KnownHosts, []byte(s.HostKeyLine("ed25519")), 0o644))
			return
		}
	}
	s.t.Fatalf("sshd does not start: %s", s.Log())
}

// start runs sshd on port and reports whether it came up.
func (s *Server) start(port int) bool {
	s.t.Helper()
	s.Port = port
	config := filepath.Join(s.home, "sshd_config")
	s.must(os.WriteFile(config, []byte(s.config()), 0o644))
	if os.Getuid() == 0 {
		s.must(os.MkdirAll("/run/sshd", 0o755)) // the privilege separation directory
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	s.must(err)
	defer log.Close()
	s.sshd = exec.Command(sshd, "-D", "-e", "-f", config)
	s.sshd.Stderr = log
	if err := s.sshd.Start(); err != nil {
		s.t.Fatalf("install openssh-server: %v", err)
	}
	s.pids = append(s.pids, s.sshd.Process.Pid)
	gone, cmd := make(chan struct{}), s.sshd
	s.gone = gone
	go func() { cmd.Wait(); close(gone) }()
	return s.answers()
}

// answers waits until sshd has shown its banner or ended.
func (s *Server) answers() bool {
	for {
		select {
		case <-s.gone:
			return false
		case <-time.After(10 * time.Millisecond):
		}
		conn, err := net.Dial("tcp", s.Address())
		if err != nil {
			continue
		}
		banner := make([]byte, 4)
		n, _ := conn.Read(banner)
		conn.Close()
		if string(banner[:n]) == "SSH-" {
			return true
		}
	}
}

// Address returns host:port.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

func (s *Server) logFile() string { return filepath.Join(s.home, "sshd.log") }

// Log returns what sshd has said.
func (s *Server) Log() string {
	data, _ := os.ReadFile(s.logFile())
	return string(bytes.TrimSpace(data))
}

func (s *Server) config() string {
	sftp := "internal-sftp"
	if s.opts.AppendOnly {
		// internal-sftp drops the words past its ninth without a word.
		sftp += appendOnly
	}
	sftp += " -d " + s.Dir
	subsystem := "Subsystem sftp " + sftp + "\nForceCommand " + sftp
	if s.opts.NoSFTP {
		subsystem = ""
	}
	sessions := 50
	if s.opts.OneSession {
		sessions = 1
	}
	var keys strings.Builder
	for _, kind := range hostKeyKinds {
		fmt.Fprintf(&keys, "HostKey %s\n", filepath.Join(s.home, "host_"+kind))
	}
	return fmt.Sprintf(`ListenAddress %s:%d
%sPidFile none
AuthorizedKeysFile %s
AuthenticationMethods publickey
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
AllowUsers %s
DisableForwarding yes
PermitTTY no
MaxStartups 100
MaxSessions %d
LogLevel VERBOSE
%s
`, s.Host, s.Port, keys.String(), filepath.Join(s.home, "authorized_keys"), s.User, sessions, subsystem)
}
