package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each signal interrupts a restore that has stopped the service in the same way:
// the service is started again. Nobody stays without it because a terminal was
// closed or the reader of a pipe went away.
func TestSignalsInterruptAlike(t *testing.T) {
	for _, how := range []string{"SIGHUP", "SIGINT", "SIGTERM", "pipe"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			binary := filepath.Join(dir, "atobackupd")
			self, err := os.Executable()
			must(t, err)
			must(t, os.Symlink(self, binary)) // testscript.Main goes by the name
			must(t, os.MkdirAll(filepath.Join(dir, "live"), 0o755))
			makeMemories(t, filepath.Join(dir, "live/a.db"), 3)
			must(t, os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, `state_dir = "%[1]s/state"
[atocore]
db_path = "%[1]s/live/a.db"
[backup]
dir = "%[1]s/backups"
min_free = "1MiB"
[restore]
stop_command = ["sh", "-c", "touch %[1]s/stopped; while [ ! -e %[1]s/go ]; do sleep 0.05; done; echo stopped >&2"]
start_command = ["touch", "%[1]s/started"]
`, dir), 0o600))
			t.Setenv("ATOBACKUPD_CONFIG", filepath.Join(dir, "config.toml"))
			command(t, 0, "backup")
			cmd := exec.Command(binary, "restore", "latest", "--manage-service")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			reader, writer, err := os.Pipe()
			must(t, err)
			cmd.Stdout, cmd.Stderr = writer, writer
			must(t, cmd.Start())
			writer.Close()
			waitFor(t, filepath.Join(dir, "stopped"))
			switch how {
			case "pipe":
				reader.Close()
			default:
				signal := map[string]syscall.Signal{"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT,
					"SIGTERM": syscall.SIGTERM}[how]
				must(t, cmd.Process.Signal(signal))
				if how == "SIGHUP" { // a closed terminal sends it twice
					must(t, cmd.Process.Signal(signal))
				}
			}
			must(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
			text := ""
			if how != "pipe" {
				all, err := io.ReadAll(reader)
				must(t, err)
				text = string(all)
			}
			_ = cmd.Wait()
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if status.Signaled() {
				t.Errorf("it was killed by %v\n%s", status.Signal(), text)
			}
			if how != "pipe" && status.ExitStatus() != 130 {
				t.Errorf("exit status %d, not 130\n%s", status.ExitStatus(), text)
			}
			if _, err := os.Stat(filepath.Join(dir, "started")); err != nil {
				t.Errorf("the service was not started again (%v)\n%s", err, text)
			}
			if out := command(t, 0, "list"); !strings.Contains(out, "valid") {
				t.Errorf("afterwards: %s", out)
			}
		})
	}
}

// waitFor waits until a file is there; the test's own deadline ends it otherwise.
func waitFor(t *testing.T, path string) {
	t.Helper()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
