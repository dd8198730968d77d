package forktest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Child is a process that runs beside a test, and at most as long.
type Child struct {
	*exec.Cmd
	Stdin io.WriteCloser // a role that waits for its end can be told to finish

	t     testing.TB
	lines *bufio.Scanner
}

// Start starts a command and has it killed when the test ends. What it says on
// standard error is shown.
func Start(t testing.TB, cmd *exec.Cmd) *Child {
	t.Helper()
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
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
	c := &Child{Cmd: cmd, Stdin: stdin, t: t, lines: bufio.NewScanner(stdout)}
	t.Cleanup(c.Kill)
	return c
}

// StartWhen is Start that returns once the child has said a line, and fails the
// test when the child says another.
func StartWhen(t testing.TB, line string, cmd *exec.Cmd) *Child {
	t.Helper()
	c := Start(t, cmd)
	if got := c.Line(); got != line {
		t.Fatalf("the child said %q, not %q", got, line)
	}
	return c
}

// Scan waits for the child's next line, which Line and Text return, and reports
// whether there is one.
func (c *Child) Scan() bool { return c.lines.Scan() }

// Text returns the line that Scan came to.
func (c *Child) Text() string { return c.lines.Text() }

// Line returns the child's next line. The test ends where there is none.
func (c *Child) Line() string {
	c.t.Helper()
	if !c.Scan() {
		c.t.Fatal("the child said nothing more")
	}
	return c.Text()
}

// Kill ends the child as a crash would, and waits for it. It may be called more
// than once.
func (c *Child) Kill() {
	_ = c.Process.Kill()
	_ = c.Wait()
	c.Stdin.Close()
}

// Close lets the child see the end of its input, and waits until it has ended by
// itself, without an error.
func (c *Child) Close() {
	c.t.Helper()
	c.Stdin.Close()
	for c.Scan() { // Wait closes the pipe, so all is read before
	}
	if err := c.Wait(); err != nil {
		c.t.Fatalf("the child: %v", err)
	}
}

// WaitForEnd is for a role: it says ready and returns when the parent closes the
// child's input.
func WaitForEnd(ready string) error {
	if _, err := io.WriteString(os.Stdout, ready+"\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// As makes a command run as another user, with that user's number as its group.
func As(uid int, cmd *exec.Cmd) *exec.Cmd {
	attributes(cmd).Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	return cmd
}

func attributes(cmd *exec.Cmd) *syscall.SysProcAttr {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return cmd.SysProcAttr
}
