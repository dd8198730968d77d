// Command atobackupd takes, validates, prunes, ships and restores snapshots of
// AtoCore's state, as a daemon or one command at a time.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	_ "time/tzdata" // the binary is static and may run where there is no zoneinfo

	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/failure"
)

func main() {
	keepHeapSmall()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	var lost, unheard atomic.Pointer[error]
	c := &cli{json: wantsJSON(args), rawStdout: stream{stdout, interrupt, &lost},
		rawStderr: stream{stderr, interrupt, &unheard}}
	c.stdout, c.stderr = escape.Writer(c.rawStdout), escape.Writer(c.rawStderr)
	defer c.listen(ctx, interrupt)()
	c.done = ctx.Done()
	root := newRoot(c)
	root.SetArgs(args)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	c.progress.finish()
	if failed := lost.Load(); err == nil && failed != nil {
		err, c.started = *failed, true // the work may be done, but its answer is not there
	}
	if err == nil {
		// Also where a reader has gone that had seen enough, like head: the work is done.
		return c.status
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitCode(&failure.Error{Kind: failure.Interrupted}) // who asked has gone
	}
	if !c.started && failure.KindOf(err) != failure.Usage {
		err = usageError(cmd, argumentsError(cmd, err), "")
	}
	c.fail(err)
	return exitCode(err)
}

// listen turns signals into interrupt. The first SIGINT or SIGTERM asks for an
// orderly end, and a second one ends at once. SIGHUP asks too, except of `run`,
// which reloads: it never ends at once, because a terminal that is closed sends
// it twice, from the shell and from the kernel. Under nohup it stays ignored.
func (c *cli) listen(ctx context.Context, interrupt func()) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	c.hangup = make(chan os.Signal, 2)
	c.nohup = signal.Ignored(syscall.SIGHUP)
	signal.Notify(c.hangup, syscall.SIGHUP)
	// A write to a pipe that nobody reads fails from now on; it used to kill.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		select {
		case <-signals:
			interrupt()
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	c.onHangup = func() {
		for range c.hangup {
			if !c.nohup {
				interrupt()
			}
		}
	}
	return func() {
		signal.Stop(signals)
		signal.Stop(c.hangup)
		close(c.hangup)
	}
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
// the command has written its document already.
func (c *cli) fail(err error) {
	message := withNextStep(withSudo(err)).Error()
	if failure.KindOf(err) == failure.Interrupted && errors.Is(err, context.Canceled) {
		message = "interrupted: nothing half-made was left; run it again to start over"
		if f := (*failure.Error)(nil); errors.As(err, &f) && f.Hint != "" {
			message = "interrupted: " + f.Hint
		}
	}
	if message != c.noticed {
		// A line that a name of somebody else's begins does not look like ours.
		fmt.Fprintln(c.stderr, "atobackupd:", strings.ReplaceAll(message, "\n", "\n  "))
	}
	if c.json && !c.emitted {
		_ = c.emit(map[string]any{"error": message, "exit_status": cmp.Or(c.status, exitCode(err))}, nil)
	}
}

// withNextStep adds a hint to the error about a machine that does not answer, where
// nothing on the way knew a better one.
func withNextStep(err error) error {
	if failure.KindOf(err) != failure.Unreachable || failure.HintOf(err) != "" {
		return err
	}
	return &failure.Error{Kind: failure.Unreachable, Err: err,
		Hint: "see that it is awake, and that its server listens there; then try again"}
}

// withSudo replaces the hint of an error that this machine's permissions cause:
// nothing else helps whoever forgot sudo.
func withSudo(err error) error {
	denied := errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
	if !denied || os.Geteuid() == 0 {
		return err
	}
	return &failure.Error{Kind: failure.KindOf(err), Err: failure.WithoutHint(err), Hint: "put sudo before it"}
}
