//go:build rig

package sftp

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
)

// runContract runs the contract on a server that is not OpenSSH's and that hides
// links, and returns how to dial a vault on it. shown is the directory that it shows
// as its root.
func runContract(t *testing.T, cfg Config, shown string) (dial func(t *testing.T, root string) *Remote) {
	dial = func(t *testing.T, root string) *Remote {
		at := cfg
		at.Path = strings.TrimPrefix(root, shown)
		r, err := Dial(context.Background(), at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	remotetest.Run(
		t, func(t *testing.T, root string) offsite.Remote { return dial(t, root) },
		remotetest.Options{HidesLinks: true},
	)
	return dial
}

// freePort returns a port on which nobody listens.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
