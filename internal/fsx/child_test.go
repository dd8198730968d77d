package fsx_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// Locks and kills need another process.
func TestMain(m *testing.M) {
	os.Exit(forktest.Main(m.Run, map[string]forktest.Role{
		"lock file": forktest.JSON(func(args []string) error {
			if _, err := fsx.LockFile(context.Background(), args[0], args[1], time.Minute, nil); err != nil {
				return err
			}
			return forktest.WaitForEnd("ready")
		}),
		"share": forktest.JSON(func(args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			if _, ok, err := fsx.LockOpen(f, false); err != nil || !ok {
				return fmt.Errorf("ok %v, %v", ok, err)
			}
			return forktest.WaitForEnd("ready")
		}),
		"write": forktest.JSON(func(args []string) error {
			fsxtest.KillIfAsked()
			return fsx.WriteFile(args[0], []byte(args[1]), 0o600)
		}),
	}))
}

// start runs a role until the test ends or the child is killed.
func start(t *testing.T, role string, args ...string) *forktest.Child {
	t.Helper()
	return forktest.StartWhen(t, "ready", forktest.Command(role, args))
}
