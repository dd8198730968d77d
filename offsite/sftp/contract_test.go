package sftp

import (
	"context"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
)

// serverPaths is where distributions put OpenSSH's sftp-server.
var serverPaths = []string{
	"/usr/lib/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/openssh/sftp-server",
	"/usr/libexec/sftp-server",
}

// sftpServer starts OpenSSH's own server on a pipe: all of SFTP and no ssh.
func sftpServer(t *testing.T) (link, *exec.Cmd) {
	t.Helper()
	for _, path := range serverPaths {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		cmd := exec.Command(path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return link{
			Reader: out, WriteCloser: in,
			kill: func() { cmd.Process.Kill(); in.Close(); out.(io.Closer).Close() },
		}, cmd
	}
	t.Fatal("no sftp-server: install openssh-sftp-server")
	return link{}, nil
}

// pipe returns a Remote on root over such a pipe.
func pipe(t *testing.T, root string, change ...func(*Config)) *Remote {
	t.Helper()
	cfg := Config{Hosts: []string{"pipe"}, Path: root, KnownHosts: "none"}
	for _, f := range change {
		f(&cfg)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	l, _ := sftpServer(t)
	r, err := newRemote(context.Background(), "pipe", l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestContract(t *testing.T) {
	remotetest.Run(t, func(t *testing.T, root string) offsite.Remote { return pipe(t, root) }, remotetest.Options{})
}
