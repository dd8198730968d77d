package fsx_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// Locks and kills need another process: this test binary again, told by roleEnv
// what to be.
const roleEnv = "FSX_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	fsxtest.KillIfAsked()
	if err := roles[role](os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

var roles = map[string]func(args []string) error{
	"lock file": func(args []string) error {
		if _, err := fsx.LockFile(context.Background(), args[0], args[1], time.Minute, nil); err != nil {
			return err
		}
		return waitForParent()
	},
	"share dir": func(args []string) error {
		if _, ok, err := fsx.LockDir(args[0], false); err != nil || !ok {
			return fmt.Errorf("ok %v, %v", ok, err)
		}
		return waitForParent()
	},
	"write": func(args []string) error { return fsx.WriteFile(args[0], []byte(args[1]), 0o600) },
}

func waitForParent() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func command(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// start runs a role until the test ends or kill is called, which sends SIGKILL.
func start(t *testing.T, role string, args ...string) (cmd *exec.Cmd, kill func()) {
	t.Helper()
	return startAs(t, nil, role, args...)
}

// startAs is start as another user; nil means this one.
func startAs(t *testing.T, who *syscall.Credential, role string, args ...string) (cmd *exec.Cmd, kill func()) {
	t.Helper()
	cmd = command(role, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		stdin.Close()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: %q, %v", role, line, err)
	}
	return cmd, kill
}
