// Package failure is the vocabulary of errors that reach an operator: what was
// being done, to what, why it failed, and what to do next.
//
// A package returns an *Error where a person must act or a program must tell
// cases apart; plain errors wrapped with %w do elsewhere. Errors are returned
// or logged, never both.
package failure

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/escape"
)

// Kind is the closed set of reasons that programs act on: exit codes, the
// states of a target, alarms. Add one only where something acts on it.
type Kind int

// The kinds. The comment names the exit code of a command that ends with it.
const (
	Other         Kind = iota // 1: anything else
	Usage                     // 2: the command line is wrong
	Config                    // 2: the configuration is wrong
	Invalid                   // 3: a snapshot does not validate
	Refused                   // 4: refused for safety, nothing was touched
	Locked                    // 5: another process holds the lock
	Unreachable               // 75: the target does not answer; try later
	Interrupted               // 130: a signal or a cancelled context
	NotFound                  // 1: what was named does not exist
	Auth                      // 1: the target refused our key
	HostKey                   // 1: the target's host key is unknown or changed
	VaultMismatch             // 1: the vault is not the one that was pinned
	NoSpace                   // 1: no room, here or on the target
	Stale                     // 1: the vault is behind what was last written
)

// Error is one failure with the parts that a person and a program need.
type Error struct {
	Op      string // what was being done: "backup", "restore refused"
	Subject string // on what: a stamp, a path, a target
	Kind    Kind
	Err     error  // why
	Hint    string // what to do next; one imperative clause
}

// Error reads "op: subject: why: hint", leaving out the parts that are empty and
// those that an outer error has said already.
func (e *Error) Error() string { return strings.Join(e.parts(nil), ": ") }

// parts appends to said what e adds to it.
func (e *Error) parts(said []string) []string {
	add := func(part string) {
		if part != "" && !slices.Contains(said, part) {
			said = append(said, part)
		}
	}
	add(e.Op)
	add(escape.String(e.Subject))
	switch cause := e.Err.(type) {
	case nil:
	case *Error:
		said = cause.parts(said)
	case *fs.PathError:
		if cause.Path == e.Subject {
			add(cause.Err.Error())
		} else {
			add(cause.Error())
		}
	default:
		add(cause.Error())
	}
	// What is wrapped as plain text may end with the same hint.
	if n := len(said); n == 0 || !strings.HasSuffix(said[n-1], ": "+e.Hint) {
		add(e.Hint)
	}
	return said
}

// WithoutHint returns err without its hints, for a caller that knows better what
// to do next.
func WithoutHint(err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	bare := *e
	bare.Hint, bare.Err = "", WithoutHint(e.Err)
	return &bare
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the outermost Kind in err's chain that says more than Other.
// A cancelled context is Interrupted whoever reports it; nil is Other.
func KindOf(err error) Kind {
	for e := err; e != nil; {
		var f *Error
		if !errors.As(e, &f) {
			break
		}
		if f.Kind != Other {
			return f.Kind
		}
		e = f.Err
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted
	}
	return Other
}

// HintOf returns the outermost hint in err's chain; "" where there is none.
func HintOf(err error) string {
	for e := err; e != nil; {
		var f *Error
		if !errors.As(e, &f) {
			return ""
		}
		if f.Hint != "" {
			return f.Hint
		}
		e = f.Err
	}
	return ""
}
