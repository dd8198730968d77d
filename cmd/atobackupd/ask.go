package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
)

// input makes reading what a person types end with an interrupt, which only asks the
// program to end: the read would go on waiting for the answer.
func (c *cli) input(r io.Reader) io.Reader { return interruptible{r, c.done} }

type interruptible struct {
	io.Reader
	done <-chan struct{}
}

func (i interruptible) Read(p []byte) (int, error) {
	type result struct {
		typed []byte
		err   error
	}
	read := make(chan result, 1)
	size := len(p) // p is the caller's again after an interrupt
	go func() {
		typed := make([]byte, size)
		n, err := i.Reader.Read(typed)
		read <- result{typed[:n], err}
	}()
	select {
	case r := <-read:
		return copy(p, r.typed), r.err
	case <-i.done:
		return 0, context.Canceled
	}
}

// identities loads the secret keys of a file, and asks on the terminal for the
// passphrase of one that is locked.
func (c *cli) identities(path string) (crypt.Identities, error) {
	if path == "" {
		return crypt.Identities{}, &failure.Error{Op: "identity", Kind: failure.Usage,
			Err: errors.New("--identity is needed"), Hint: "name the secret key file"}
	}
	return crypt.LoadIdentitiesWithPassphrase(path, c.passphrase)
}

// passphrase asks on the terminal, without showing what is typed.
func (c *cli) passphrase() (answer []byte, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("a passphrase protects it, and there is no terminal to ask for it on")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, before))
		fmt.Fprintln(tty)
	}()
	c.progress.finish()
	fmt.Fprint(tty, "passphrase of the secret key: ")
	line, err := bufio.NewReader(c.input(tty)).ReadBytes('\n')
	return []byte(strings.TrimRight(string(line), "\r\n")), err
}

// confirm asks a question on the terminal; without one the answer is no.
func (c *cli) confirm(question string) bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	c.progress.finish()
	fmt.Fprintf(tty, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(c.input(tty)).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
