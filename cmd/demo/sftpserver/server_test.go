package sftpserver_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/cmd/demo/sftpserver"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
	"github.com/atocore/atobackupd/offsite/sftp"
)

// key makes a client key and returns its files.
func key(t *testing.T) (private, public string) {
	t.Helper()
	private = filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
		private).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return private, string(data)
}

// start serves root and returns the configuration of a client that may enter.
func start(t *testing.T, root string) (*sftpserver.Server, sftp.Config) {
	t.Helper()
	private, public := key(t)
	s, err := sftpserver.Start(context.Background(), root, public)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte(s.KnownHostsLine()), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, sftp.Config{
		Name: "demo", Hosts: []string{s.Addr().IP.String()}, Port: s.Addr().Port, User: "demo",
		IdentityFile: private, KnownHosts: known, Path: "/",
	}
}

func TestContract(t *testing.T) {
	remotetest.Run(t, func(t *testing.T, root string) offsite.Remote {
		_, cfg := start(t, root)
		r, err := sftp.Dial(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}, remotetest.Options{})
}

// A path from the client's side never leads out, however it is written.
func TestConfined(t *testing.T) {
	outside := t.TempDir()
	root := filepath.Join(outside, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, cfg := start(t, root)
	for _, path := range []string{outside, "../" + filepath.Base(outside), "/../..", "/.."} {
		cfg.Path = path
		r, err := sftp.Dial(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Open(context.Background(), "secret"); err == nil {
			t.Errorf("%s leads to the secret", path)
		}
		r.Close()
	}
	batch := fmt.Sprintf("cd %s\nget secret %s\n", outside, filepath.Join(t.TempDir(), "got"))
	client := exec.Command("sftp", "-b", "-", "-P", fmt.Sprint(cfg.Port), "-i", cfg.IdentityFile,
		"-o", "UserKnownHostsFile="+cfg.KnownHosts, "-F", "/dev/null", cfg.Hosts[0])
	client.Stdin = strings.NewReader(batch)
	if out, err := client.CombinedOutput(); err == nil {
		t.Errorf("OpenSSH's client reached outside: %s", out)
	}
}

func TestOtherKeyIsRefused(t *testing.T) {
	_, cfg := start(t, t.TempDir())
	cfg.IdentityFile, _ = key(t)
	if _, err := sftp.Dial(context.Background(), cfg); failure.KindOf(err) != failure.Auth {
		t.Errorf("Dial with another key: %v", err)
	}
}

func TestStart(t *testing.T) {
	if _, err := sftpserver.Start(context.Background(), t.TempDir(), "no key"); err == nil {
		t.Error("a key that is none was taken")
	}
	_, public := key(t)
	if _, err := sftpserver.Start(context.Background(), filepath.Join(t.TempDir(), "none"), public); err == nil {
		t.Error("a missing directory was taken")
	}
}

// It ends with its context, connections and all, and may then be closed again.
func TestEndsWithItsContext(t *testing.T) {
	_, public := key(t)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := sftpserver.Start(ctx, t.TempDir(), public)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	for buf := make([]byte, 64); err == nil; {
		_, err = conn.Read(buf) // its banner, then the end
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
