//go:build rig

package sftp

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRigProFTPD runs the contract on ProFTPD's mod_sftp, which hosters of storage
// run: it flushes files and no directories, its rename replaces, and it hides links.
func TestRigProFTPD(t *testing.T) {
	rig := filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig")
	port := freePort(t)
	dir := t.TempDir()
	if out, err := exec.Command(
		filepath.Join(rig, "proftpd-up.sh"), dir, fmt.Sprint(port),
	).CombinedOutput(); err != nil {
		t.Fatalf("proftpd-up.sh: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(filepath.Join(rig, "proftpd-down.sh"), dir).Run() })
	dial := runContract(t, Config{Name: "nas", Hosts: []string{"127.0.0.1"}, Port: port, User: "root",
		IdentityFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts")}, "")

	r := dial(t, t.TempDir())
	if _, err := r.Put(context.Background(), "packs/one", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	if said := strings.Join(r.Lacks(), "; "); !strings.Contains(said, "cannot flush directories to disk") {
		t.Errorf("what it lacks: %q", said)
	}
}
