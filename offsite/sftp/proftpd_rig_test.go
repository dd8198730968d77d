//go:build rig

package sftp

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
)

// TestRigProFTPD runs the contract on ProFTPD's mod_sftp, which hosters of storage
// run: it flushes files and no directories, its rename replaces, and it hides links.
func TestRigProFTPD(t *testing.T) {
	rig := filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	if out, err := exec.Command(
		filepath.Join(rig, "proftpd-up.sh"), dir, fmt.Sprint(port),
	).CombinedOutput(); err != nil {
		t.Fatalf("proftpd-up.sh: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(filepath.Join(rig, "proftpd-down.sh"), dir).Run() })
	dial := func(t *testing.T, root string) *Remote {
		r, err := Dial(
			context.Background(),
			Config{Name: "nas", Hosts: []string{"127.0.0.1"}, Port: port, User: "root", Path: root,
				IdentityFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts")},
		)
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

	r := dial(t, t.TempDir())
	if _, err := r.Put(context.Background(), "packs/one", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	if said := strings.Join(r.Lacks(), "; "); !strings.Contains(said, "cannot flush directories to disk") {
		t.Errorf("what it lacks: %q", said)
	}
}
