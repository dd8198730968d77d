package forktest

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Exchange is what a hostile process does beside a test: it exchanges two names,
// a directory and a link to a victim, as fast as it can.
type Exchange struct{ A, B string }

// BeExchanger is the role of that process. It says "exchanging", goes on until its
// input ends, and then says how often it did. Names that are away for a while are
// exchanged again when they are back.
func BeExchanger(e Exchange) error {
	var stop atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	fmt.Println("exchanging")
	count := 0
	for !stop.Load() {
		if unix.Renameat2(unix.AT_FDCWD, e.A, unix.AT_FDCWD, e.B, unix.RENAME_EXCHANGE) == nil {
			count++
		}
	}
	fmt.Println(count)
	return nil
}

// StopExchanging ends such a process and returns how often it exchanged.
func (c *Child) StopExchanging() (count int) {
	c.t.Helper()
	c.Stdin.Close()
	if _, err := fmt.Sscan(c.Line(), &count); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		c.t.Fatalf("the child: %v", err)
	}
	return count
}
