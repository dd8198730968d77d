// Command atobackupd takes, validates, prunes, ships and restores snapshots of
// AtoCore's state, as a daemon or one command at a time.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // the binary is static and may run where there is no zoneinfo

	"github.com/atocore/atobackupd/internal/failure"
)

func main() {
	setGCPercent(defaultGCPercent)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// A backup shares its machine: little garbage, at no cost that could be
// measured, keeps a push below 64 MB. A restore is waited for, and what SSH
// receives is garbage as large as the vault: collecting it less often saves a
// fifth of the time and keeps below 96 MB.
const (
	defaultGCPercent = 25
	restoreGCPercent = 120
)

// setGCPercent sets how much garbage is let be. GOGC still decides.
func setGCPercent(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	// The first signal asks for an orderly end; a second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	c := &cli{stdout: stdout, stderr: stderr}
	root := newRoot(c)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	c.progress.finish()
	if err == nil {
		return c.status
	}
	if !c.started {
		err = &failure.Error{Kind: failure.Usage, Err: err, Hint: "see `atobackupd --help`"}
	}
	c.fail(err)
	return exitCode(err)
}

// exitCode turns an error's kind into the exit status of the contract.
func exitCode(err error) int {
	switch failure.KindOf(err) {
	case failure.Usage, failure.Config:
		return 2
	case failure.Invalid:
		return 3
	case failure.Refused:
		return 4
	case failure.Locked:
		return 5
	case failure.Unreachable:
		return 75
	case failure.Interrupted:
		return 130
	}
	return 1
}

// fail tells a person what went wrong and, with --json, a program too, unless
// the command has given its document already.
func (c *cli) fail(err error) {
	message := err.Error()
	if failure.KindOf(err) == failure.Interrupted && errors.Is(err, context.Canceled) {
		message = "interrupted: nothing half-made was left; run it again to start over"
	}
	if message != c.noticed {
		fmt.Fprintln(c.stderr, "atobackupd:", message)
	}
	if c.json && !c.emitted {
		_ = c.emit(map[string]string{"error": message}, nil)
	}
}
