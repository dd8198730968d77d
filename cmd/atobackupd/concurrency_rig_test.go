//go:build rig

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
)

// together is what is typed at the same time, each by somebody of his own, and the
// exit codes that it may have: 4 and 5 are of who came second.
var together = []struct {
	script string
	exits  string
}{
	{`a backup --chroma`, "045"},
	{`a backup --no-chroma`, "045"},
	{`a sync`, "045"},
	{`a prune`, "045"},
	{`a validate latest`, "0"},
	{`a scrub`, "045"},
	{`a vault verify`, "045"},
	{`a status --json`, "012"},
	{`a list --json; a history --json; a schedule`, "0"},
	{`a drill`, "045"},
	{`a restore latest --confirm-service-stopped`, "045"},
	{`a restore latest --confirm-service-stopped --no-pre-snapshot`, "045"},
	{`d=$(mktemp -d) && a restore latest --to $d && rm -r $d`, "045"},
	{`a run`, "5"}, // the second daemon
}

var exitStatus = regexp.MustCompile(`(?m)^status (\d+)$`)

// TestConcurrent has a daemon, a second one and every command work at once, all
// built with the race detector. Each does its work or says that another is at it, and
// afterwards whatever is there is whole.
func TestConcurrent(t *testing.T) {
	t.Setenv("GORACE", "exitcode=66")
	s := newTrustScene(t, buildRacy(t))
	const address = "127.0.0.1:18991"
	config := output(t, s.dir, "cat", "config.toml")
	must(t, os.WriteFile(filepath.Join(s.dir, "config.toml"),
		[]byte(strings.Replace(config, `listen = ""`, `listen = "`+address+`"`, 1)+
			"[schedule]\ndaily = \"* * * * *\"\n"), 0o600))
	if out := s.root(t, `a config check; a backup --chroma; a sync`); strings.Count(out, "status 0") != 3 {
		t.Fatal(out)
	}
	daemon := s.command(0, `exec "$A" --config config.toml run`)
	log, err := os.Create(filepath.Join(s.dir, "daemon.log"))
	must(t, err)
	daemon.Stdout, daemon.Stderr = log, log
	must(t, daemon.Start())
	t.Cleanup(func() { _ = syscall.Kill(-daemon.Process.Pid, syscall.SIGKILL) })
	waitUntil(t, func() bool {
		answer, err := http.Get("http://" + address + "/health")
		return err == nil && answer.Body.Close() == nil
	})

	rounds := provetest.Rounds(t, 1)
	for round := range rounds {
		var everybody sync.WaitGroup
		for _, one := range together {
			everybody.Go(func() {
				out, _ := s.command(0, one.script).CombinedOutput()
				for _, exit := range exitStatus.FindAllStringSubmatch(string(out), -1) {
					if !strings.Contains(one.exits, exit[1]) {
						t.Errorf("round %d: %s: exit %s\n%s", round, one.script, exit[1], out)
					}
				}
			})
		}
		everybody.Wait()
	}

	must(t, daemon.Process.Signal(syscall.SIGTERM))
	if err := daemon.Wait(); err != nil {
		t.Errorf("the daemon: %v\n%s", err, output(t, s.dir, "tail", "-n", "50", "daemon.log"))
	}
	hung := s.command(0, `exec "$A" --config config.toml backup --chroma`)
	must(t, hung.Start())
	waitUntil(t, func() bool { return holdsLock(s.dir, hung.Process.Pid) })
	must(t, hung.Process.Signal(syscall.SIGSTOP))
	out := s.root(t, `a prune --lock-timeout 3s; a list; a status --json >/dev/null`)
	if !strings.Contains(out, fmt.Sprint(hung.Process.Pid)) {
		t.Errorf("who holds the lock is not named:\n%s", out)
	}
	must(t, hung.Process.Signal(syscall.SIGCONT))
	must(t, hung.Wait())

	out = s.root(t, `a sync; a validate --all; a vault verify; a backup --chroma; ls backups/staging state`)
	if strings.Count(out, "status 0") != 4 || strings.Contains(out, "restore-journal") {
		t.Error(out)
	}
	provetest.Points(t, rounds*len(together)+1)
}

// holdsLock reports whether a process has the main lock.
func holdsLock(dir string, pid int) bool {
	names, _ := filepath.Glob(filepath.Join(dir, "*", "*lock*"))
	return slices.ContainsFunc(names, func(name string) bool {
		data, err := os.ReadFile(name)
		return err == nil && strings.Contains(string(data), fmt.Sprint(pid))
	})
}

// buildRacy builds the program with the race detector, which needs a C compiler.
func buildRacy(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "atobackupd")
	build := exec.Command("go", "build", "-race", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build -race: %v: %s", err, out)
	}
	return path
}

func waitUntil(t *testing.T, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come about within two minutes")
		}
	}
}
