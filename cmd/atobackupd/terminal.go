package main

import (
	"errors"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/escape"
)

// stream is stdout or stderr. Whoever reads it may go away, like `less` when q
// is pressed: that interrupts the command, as the terminal's end does.
type stream struct {
	io.Writer
	gone func()                 // called when nobody reads any more
	lost *atomic.Pointer[error] // the last write that failed for another reason, a full disk say
}

func (o stream) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	switch {
	case errors.Is(err, syscall.EPIPE):
		o.gone()
	case err != nil:
		o.lost.Store(&err)
	}
	return n, err
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	if o, ok := w.(stream); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// defaultWidth is the number of columns where nothing says more: what a person
// pastes into a message or reads in a mail.
const defaultWidth = 80

// width is how many columns there are for people's tables: what COLUMNS says,
// else the terminal's, else defaultWidth.
func (c *cli) width() int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return max(n, 40)
	}
	if size := c.windowSize(); size != nil && size.Col > 0 {
		return max(int(size.Col), 40)
	}
	return defaultWidth
}

// height is how many lines the terminal shows.
func (c *cli) height() int {
	if size := c.windowSize(); size != nil && size.Row > 0 {
		return max(int(size.Row), 2)
	}
	return 24
}

// windowSize asks the terminal; nil where stdout is none.
func (c *cli) windowSize() *unix.Winsize {
	w := c.rawStdout
	if o, ok := w.(stream); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return size
}

// coloured paints the words that say how things stand, where they begin a line
// or a column.
type coloured struct{ io.Writer }

var (
	paintedWords = regexp.MustCompile(`(?m)(^|  )(ok|valid|passed|done|warning|unreachable|skipped|held|critical|INVALID|DAMAGED|FAILED|DELETE|unknown)\b`)
	colours      = map[string]string{
		"ok": "32", "valid": "32", "passed": "32", "done": "32",
		"warning": "33", "unreachable": "33", "skipped": "33", "held": "33", "unknown": "35",
		"critical": "1;31", "INVALID": "1;31", "DAMAGED": "1;31", "FAILED": "1;31", "DELETE": "31",
	}
)

func (c coloured) Write(p []byte) (int, error) {
	painted := paintedWords.ReplaceAllStringFunc(string(p), func(match string) string {
		word := strings.TrimLeft(match, " ")
		return strings.Repeat(" ", len(match)-len(word)) + "\x1b[" + colours[word] + "m" + word + "\x1b[0m"
	})
	if _, err := io.WriteString(c.Writer, painted); err != nil {
		return 0, err
	}
	return len(p), nil
}

// people is where text for people goes: coloured on a terminal and only there;
// NO_COLOR and TERM=dumb turn that off.
func (c *cli) people() io.Writer { return c.peopleOn(c.rawStdout) }

// peopleOn is people for text that reaches stdout by way of w.
func (c *cli) peopleOn(w io.Writer) io.Writer {
	if !isTerminal(c.rawStdout) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return escape.Writer(w)
	}
	return escape.Writer(coloured{w}) // the colours come after the escaping
}
