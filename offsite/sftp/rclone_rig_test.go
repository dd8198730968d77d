//go:build rig

package sftp

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"
)

// TestRigRclone runs the contract on `rclone serve sftp`, through which a vault can
// lie on any service that rclone knows: it flushes nothing, announces statvfs and
// has it not, and hides symbolic links.
func TestRigRclone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"host", "id_ed25519"} {
		out, err := exec.Command(
			"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", filepath.Join(dir, name),
		).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	port := freePort(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// Cached, or a file cannot be read back while it is written; written out at
	// once, or it is not there yet when it is renamed.
	serve := exec.Command("rclone", "serve", "sftp", os.TempDir(), "--addr", address, "--user", "backup",
		"--key", filepath.Join(dir, "host"), "--authorized-keys", filepath.Join(dir, "id_ed25519.pub"),
		"--log-level", "ERROR", "--vfs-cache-mode", "full", "--vfs-write-back", "0s", "--dir-cache-time", "0s",
		"--cache-dir", filepath.Join(dir, "cache"))
	serve.Stdout, serve.Stderr = log, log
	if err := serve.Start(); err != nil {
		t.Fatalf("install rclone: %v", err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("rclone: %s", said)
		}
	})
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			break
		}
		if said, _ := os.ReadFile(log.Name()); strings.Contains(string(said), "Failed to") {
			t.Fatalf("rclone: %s", said)
		}
		time.Sleep(20 * time.Millisecond)
	}
	cfg := Config{
		Name: "cloud", Hosts: []string{"127.0.0.1"}, Port: port, User: "backup",
		IdentityFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"),
	}
	key, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(key))
	line := knownhosts.Normalize(address) + " " + fields[0] + " " + fields[1]
	if err := AppendKnownHosts(cfg.KnownHosts, []string{line}); err != nil {
		t.Fatal(err)
	}
	dial := runContract(t, cfg, os.TempDir())

	r := dial(t, t.TempDir())
	if free, err := r.Free(context.Background()); err != nil || free != -1 {
		t.Errorf("free: %d, %v", free, err)
	}
	said := strings.Join(r.Lacks(), "; ")
	if !strings.Contains(said, "cannot flush to disk") || !strings.Contains(said, "how much space is free") {
		t.Errorf("what it lacks: %q", said)
	}
}
