package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// write commits to the demonstration's database 50 times a second until ctx
// ends, and prints the number of each transaction once it is committed. Each
// changes two tables, which agree in every whole copy. It is a process of its own:
// POSIX locks belong to processes, and the application is one, too.
func write(ctx context.Context, path string, out io.Writer) (err error) {
	db, err := openWritable(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for n := 1; ctx.Err() == nil; n++ {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		if _, err := tx.ExecContext(ctx,
			`insert into memories (content, confidence) values ('memory ' || ?, 0.5);
			update ledger set memories = memories + 1`, n); err != nil {
			return errors.Join(tx.Rollback(), ignoreEnd(ctx, err))
		}
		if err := tx.Commit(); err != nil {
			return ignoreEnd(ctx, err)
		}
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// ignoreEnd hides the error that the end of the story causes.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// writer is the process that runs write.
type writer struct {
	cmd  *exec.Cmd
	last atomic.Int64
	done chan struct{}
}

func startWriter(ctx context.Context, path string) (*writer, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &writer{cmd: exec.CommandContext(ctx, executable, "-writer", path), done: make(chan struct{})}
	w.cmd.Stderr = os.Stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan struct{})
	go func() {
		defer close(w.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				continue
			}
			if w.last.Swap(n) == 0 {
				close(first)
			}
		}
	}()
	select {
	case <-first:
		return w, nil
	case <-w.done:
		return nil, errors.Join(errors.New("the writer did not start"), w.cmd.Wait())
	}
}

// committed is the number of the last transaction that was acknowledged.
func (w *writer) committed() int64 { return w.last.Load() }

func (w *writer) pid() int { return w.cmd.Process.Pid }

// stop ends the process and waits for it. It may be called more than once.
func (w *writer) stop() {
	if w.cmd.ProcessState != nil {
		return
	}
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	<-w.done
	_ = w.cmd.Wait()
}
