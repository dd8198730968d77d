package sftp

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// configFor is how a client reaches s.
func configFor(s *sshdtest.Server) Config {
	return Config{
		Name: "laptop", Hosts: []string{s.Host}, Port: s.Port, User: s.User, IdentityFile: s.IdentityFile,
		KnownHosts: s.KnownHosts, Path: s.Dir, DialTimeout: 10 * time.Second,
		sshConfigFile: "/dev/null",
	}
}

// dial must work.
func dial(t *testing.T, cfg Config) *Remote {
	t.Helper()
	r, err := Dial(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// wantDialError fails unless Dial returns an error of that kind that says all of
// that.
func wantDialError(t *testing.T, cfg Config, kind failure.Kind, says ...string) {
	t.Helper()
	r, err := Dial(context.Background(), cfg)
	if err == nil {
		r.Close()
		t.Fatalf("Dial succeeded, want kind %d", kind)
	}
	if failure.KindOf(err) != kind {
		t.Errorf("Dial: kind %d, want %d: %v", failure.KindOf(err), kind, err)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("Dial: %q does not say %q", err, text)
		}
	}
}

// both runs a test over each transport.
func both(t *testing.T, test func(t *testing.T, transport string)) {
	for _, transport := range []string{Builtin, OpenSSH} {
		t.Run(transport, func(t *testing.T) { test(t, transport) })
	}
}

// The contract itself runs without ssh in between (contract_test.go); here it is
// enough that every kind of request gets through.
func TestOverSSH(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		ctx := context.Background()
		cfg := configFor(s)
		cfg.Path, cfg.Transport = filepath.Join(s.Dir, transport, "made", "by put"), transport
		r := dial(t, cfg)
		if n, err := r.Free(ctx); err != nil || n <= 0 {
			t.Errorf("Free before the root exists = %d, %v", n, err)
		}
		if _, err := r.List(ctx, "."); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("List before the root exists: %v", err)
		}
		data := strings.Repeat("0123456789", 300_000)
		if n, err := r.Put(ctx, "packs/one", strings.NewReader(data)); err != nil || n != int64(len(data)) {
			t.Fatalf("Put = %d, %v", n, err)
		}
		if info, err := os.Stat(cfg.Path); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the root was made with %v, %v", info.Mode(), err)
		}
		if err := r.Move(ctx, "packs/one", "trash/one"); err != nil {
			t.Error(err)
		}
		f, err := r.Open(ctx, "trash/one")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != data {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Remove(ctx, "trash/one"); err != nil {
			t.Error(err)
		}
	})
}

func TestAuthRefused(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	other := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		cfg := configFor(s)
		cfg.Transport, cfg.IdentityFile = transport, other.IdentityFile
		wantDialError(t, cfg, failure.Auth, "laptop", "ermission denied", "authorized_keys")
	})
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	other := sshdtest.Start(t, sshdtest.Options{})
	file := func(t *testing.T, lines ...string) string {
		path := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	of := func(line string) string { return strings.Join(strings.Fields(line)[1:], " ") }
	here := knownhosts.Normalize(s.Address())
	both(t, func(t *testing.T, transport string) {
		cfg := configFor(s)
		cfg.Transport = transport
		for name, lines := range map[string][]string{
			// The server has both: knowing one of them must be enough.
			"only ed25519": {s.HostKeyLine("ed25519")},
			"only ecdsa":   {s.HostKeyLine("ecdsa")},
			"hashed":       {knownhosts.HashHostname(here) + " " + of(s.HostKeyLine("ecdsa")) + "\n"},
			"old and new":  {here + " " + of(other.HostKeyLine("ed25519")) + "\n", s.HostKeyLine("ed25519")},
		} {
			t.Run(name, func(t *testing.T) {
				cfg.KnownHosts = file(t, lines...)
				dial(t, cfg)
			})
		}
		t.Run("unknown", func(t *testing.T) {
			cfg.KnownHosts = file(t, other.HostKeyLine("ed25519"))
			wantDialError(t, cfg, failure.HostKey, "atobackupd target trust laptop")
			cfg.KnownHosts = filepath.Join(t.TempDir(), "none")
			wantDialError(t, cfg, failure.HostKey, "atobackupd target trust laptop")
		})
		t.Run("wrong", func(t *testing.T) {
			cfg.KnownHosts = file(t, here+" "+of(other.HostKeyLine("ed25519"))+"\n")
			wantDialError(t, cfg, failure.HostKey, "CHANGED", "only if", "reinstalled")
		})
		t.Run("type that the server has not", func(t *testing.T) {
			cfg.KnownHosts = file(
				t,
				here+" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4ndRQpb2bL4Yz0zsCP29VSgbkzxQvOhnqYTmpbSZvGqhNYlpYBeoMAJWQbmB3X0uOOQ4GzzKVzjD+GZp5CkRGEmXfp1lECR9ngPNVMTBYq/D6N2rJjCKvZRZIVLvUyaA2gKq/5+3tyyBVh1XrX9JdDvCDKC1LJN36TcR3+4v/wQ==\n",
			)
			wantDialError(t, cfg, failure.HostKey)
		})
	})
	t.Run("changed", func(t *testing.T) {
		both(t, func(t *testing.T, transport string) {
			s.NewHostKey()
			cfg := configFor(s)
			cfg.Transport = transport
			wantDialError(t, cfg, failure.HostKey, "CHANGED")
		})
	})
	t.Run("a line that cannot be read", func(t *testing.T) {
		cfg := configFor(s)
		cfg.KnownHosts = file(t, "host ssh-ed25519 no-base64\n")
		wantDialError(t, cfg, failure.HostKey, "has no line for")
	})
}

// refusing returns a loopback port on which nobody listens.
func refusing(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// On loopback every host of 127.0.0.0/8 is this machine, so 127.0.0.2 stands
// for a name on which nobody answers.
func TestSeveralHosts(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		cfg := configFor(s)
		cfg.Transport = transport
		cfg.Hosts = []string{"127.0.0.2", "no-such-host.invalid", s.Host}
		cfg.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
		key := strings.Fields(s.HostKeyLine("ed25519"))[1:]
		var lines []string
		for _, host := range cfg.Hosts {
			lines = append(lines, knownhosts.Normalize(cfg.address(host))+" "+strings.Join(key, " "))
		}
		if err := AppendKnownHosts(cfg.KnownHosts, lines); err != nil {
			t.Fatal(err)
		}
		if r := dial(t, cfg); r.Host() != s.Host {
			t.Errorf("connected to %s", r.Host())
		}
		cfg.Hosts = cfg.Hosts[:2]
		wantDialError(t, cfg, failure.Unreachable, "127.0.0.2", "refused", "no-such-host.invalid")
	})
}

// Somebody else's machine under one name, a sleeping one under the other: that
// is worth an alarm, and says both.
func TestGravestReasonWins(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	s.NewHostKey()
	cfg := configFor(s)
	key := strings.Fields(s.HostKeyLine("ed25519"))[1:]
	if err := AppendKnownHosts(
		cfg.KnownHosts, []string{knownhosts.Normalize(cfg.address("127.0.0.2")) + " " + strings.Join(key, " ")},
	); err != nil {
		t.Fatal(err)
	}
	for _, hosts := range [][]string{{s.Host, "127.0.0.2"}, {"127.0.0.2", s.Host}} {
		cfg.Hosts = hosts
		wantDialError(t, cfg, failure.HostKey, "CHANGED", "127.0.0.2", "refused")
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never speaks
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	go func() {
		for {
			conn, err := web.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()
	both(t, func(t *testing.T, transport string) {
		for name, port := range map[string]int{
			"refused":       refusing(t),
			"never speaks":  silent.Addr().(*net.TCPAddr).Port,
			"speaks not us": web.Addr().(*net.TCPAddr).Port,
		} {
			t.Run(name, func(t *testing.T) {
				cfg := configFor(s)
				cfg.Transport, cfg.Port, cfg.DialTimeout = transport, port, 400*time.Millisecond
				key := strings.Join(strings.Fields(s.HostKeyLine("ed25519"))[1:], " ")
				cfg.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
				if err := AppendKnownHosts(
					cfg.KnownHosts, []string{knownhosts.Normalize(cfg.address(s.Host)) + " " + key},
				); err != nil {
					t.Fatal(err)
				}
				wantDialError(t, cfg, failure.Unreachable, "laptop", s.Host)
			})
		}
	})
	t.Run("asleep", func(t *testing.T) {
		s.StopAccepting()
		defer s.Resume()
		cfg := configFor(s)
		cfg.DialTimeout = 300 * time.Millisecond
		wantDialError(t, cfg, failure.Unreachable, "no answer in time")
	})
	t.Run("cancelled", func(t *testing.T) {
		s.StopAccepting()
		defer s.Resume()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := Dial(ctx, configFor(s))
		if !errors.Is(err, context.Canceled) || failure.KindOf(err) != failure.Interrupted {
			t.Errorf("cancelled Dial: %v", err)
		}
	})
}

func TestNoSFTPThere(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{NoSFTP: true})
	both(t, func(t *testing.T, transport string) {
		cfg := configFor(s)
		cfg.Transport = transport
		wantDialError(t, cfg, failure.Other, "no SFTP there", "sshd_config")
	})
}

func TestIdentities(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	cfg := configFor(s)
	locked := filepath.Join(t.TempDir(), "locked")
	if out, err := exec.Command(
		"ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked,
	).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cfg.IdentityFile = locked
	wantDialError(t, cfg, failure.Config, "passphrase", "ssh-agent")
	cfg.IdentityFile = locked + ".pub"
	wantDialError(t, cfg, failure.Config, "identity_file")
	cfg.IdentityFile = filepath.Join(t.TempDir(), "none")
	wantDialError(t, cfg, failure.Config, "no such file")

	cfg.IdentityFile = ""
	t.Setenv("SSH_AUTH_SOCK", "")
	wantDialError(t, cfg, failure.Config, "SSH_AUTH_SOCK")
	socket := filepath.Join(t.TempDir(), "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	for _, err := os.Stat(socket); errors.Is(err, fs.ErrNotExist); _, err = os.Stat(socket) {
		time.Sleep(5 * time.Millisecond)
	}
	t.Setenv("SSH_AUTH_SOCK", socket)
	if out, err := exec.Command("ssh-add", s.IdentityFile).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dial(t, cfg)
}

// What a person sees and confirms is enough to connect, and nothing less is.
func TestTrust(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		cfg := configFor(s)
		cfg.Transport = transport
		cfg.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
		if transport == Builtin {
			cfg.Hosts = []string{"127.0.0.2", s.Host}
		}
		fingerprint, lines, err := Trust(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, _, key, _, _, err := ssh.ParseKnownHosts([]byte(s.HostKeyLine("ed25519")))
		if want := "ssh-ed25519 " + ssh.FingerprintSHA256(key); err != nil || fingerprint != want {
			t.Errorf("fingerprint %s, want %s", fingerprint, want)
		}
		if _, err := os.Stat(cfg.KnownHosts); !errors.Is(err, fs.ErrNotExist) {
			t.Error("Trust has written known_hosts by itself")
		}
		wantDialError(t, cfg, failure.HostKey)
		for range 2 {
			if err := AppendKnownHosts(cfg.KnownHosts, lines); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(cfg.KnownHosts); err != nil || strings.Count(string(data), "\n") != 1 {
			t.Errorf("known_hosts holds %q, %v", data, err)
		}
		dial(t, cfg)
		cfg.Port = refusing(t)
		if _, _, err := Trust(context.Background(), cfg); failure.KindOf(err) != failure.Unreachable {
			t.Errorf("Trust of nobody: %v", err)
		}
	})
}

func TestAppendKnownHostsKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(path, []byte("# mine\nold ssh-ed25519 AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := AppendKnownHosts(path, []string{"new ssh-ed25519 BBBB", "old ssh-ed25519 AAAA"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if want := "# mine\nold ssh-ed25519 AAAA\nnew ssh-ed25519 BBBB\n"; err != nil || string(data) != want {
		t.Errorf("%q, %v, want %q", data, err, want)
	}
}
