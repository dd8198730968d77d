package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// errClosed is what a Remote says after Close.
var errClosed = errors.New("the connection was closed here")

// Status codes of SFTP version 3.
const (
	codeFailure      = 4
	codeNoConnection = 6
	codeLost         = 7
	codeUnsupported  = 8
	// codeExists is of version 6; ProFTPD answers it in version 3 too, when two
	// renames to one name meet.
	codeExists = 11
)

// answered reports whether an error is the server's, not the connection's: only
// the first leaves the connection usable.
func answered(err error) bool {
	var status *sftp.StatusError
	if errors.As(err, &status) {
		return status.Code != codeNoConnection && status.Code != codeLost
	}
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist)
}

// isFailure reports SSH_FX_FAILURE, by which servers say everything that
// version 3 of the protocol has no code for: full disk, name exists, I/O error.
func isFailure(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) && status.Code == codeFailure
}

// isExists reports whether the server says itself that the name is taken.
func isExists(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) && status.Code == codeExists
}

// isUnsupported reports whether the server says that it knows no such request.
func isUnsupported(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) && status.Code == codeUnsupported
}

// local is an error that arose here while the connection was sound: the
// source's, or a check that failed.
type local struct{ error }

func (l local) Unwrap() error { return l.error }

// operation is one call of a method: what its errors say, and what ends it.
type operation struct {
	remote   *Remote
	ctx      context.Context
	op, name string
	stop     func()
}

// cancelGrace is how long an operation whose context has ended may take to
// finish and to clean up before the connection is ended under it.
const cancelGrace = 5 * time.Second

// begin refuses, before any I/O, what cannot be done: a name that is not a plain
// path below the root, and a context that has ended. Otherwise it sees to it
// that the operation does not outlive ctx by much; end must be called.
func (r *Remote) begin(ctx context.Context, op string, names ...string) (*operation, error) {
	o := &operation{remote: r, ctx: ctx, op: op, name: strings.Join(names, " to ")}
	for _, name := range names {
		if root := name == "." && (op == "store" || op == "read" || op == "move" || op == "remove"); root ||
			!offsite.ValidName(name) {
			o.name = ""
			return nil, o.explain(local{&fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, o.explain(local{err})
	}
	done := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(r.grace):
			r.watch.breakOff(context.Cause(ctx))
		}
	})
	o.stop = sync.OnceFunc(func() { release(); close(done) })
	return o, nil
}

// end finishes the operation and explains its error.
func (o *operation) end(err error) error {
	o.stop()
	return o.explain(err)
}

// explain turns an error into what an operator and a program can act on. nil
// stays nil.
func (o *operation) explain(err error) error {
	if err == nil {
		return nil
	}
	r := o.remote
	e := &failure.Error{Op: o.op, Subject: r.subject(o.name), Err: plain(err)}
	var known *failure.Error
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind = failure.Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Err = failure.Unreachable, fmt.Errorf("its time was up: %w", context.DeadlineExceeded)
	case errors.As(err, &known), errors.As(err, new(local)):
	case r.watch.broken() == errClosed:
		e.Err = errClosed
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = failure.NotFound
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "let the account read, write and search there"
	case isFailure(err) && r.full():
		e.Kind, e.Err = failure.NoSpace, fmt.Errorf("no space left there: %w", err)
		e.Hint = "free some space on that machine or prune the vault"
	case isFailure(err):
		e.Hint = "the server gives no reason: look there for a read-only disk, a quota, or a permission"
	case answered(err):
	case o.ctx.Err() != nil:
		e.Kind, e.Err = kindOfEnd(o.ctx), o.ctx.Err()
		r.watch.breakOff(e.Err)
	default:
		// What is left came from the connection, not through it.
		r.watch.breakOff(err)
		e.Kind, e.Err = failure.Unreachable, r.lost(err)
	}
	return e
}

// kindOfEnd tells a context that somebody cancelled from one whose time was up
// while the peer had not answered.
func kindOfEnd(ctx context.Context) failure.Kind {
	if errors.Is(ctx.Err(), context.Canceled) {
		return failure.Interrupted
	}
	return failure.Unreachable
}

// lost says why the connection ended: our own reason, what the transport told,
// and what the operation saw.
func (r *Remote) lost(err error) error {
	if cause := r.watch.broken(); cause != nil {
		err = cause
	}
	if r.watch.link.last != nil {
		if last := r.watch.link.last(); last != "" {
			return fmt.Errorf("connection lost: %s: %w", last, err)
		}
	}
	return fmt.Errorf("connection lost: %w", err)
}

// plain drops the path from an error: the subject has it.
func plain(err error) error {
	if p, ok := err.(*fs.PathError); ok {
		return p.Err
	}
	return err
}

// subject names an object as scp does.
func (r *Remote) subject(name string) string {
	return r.host + ":" + path.Join(r.cfg.Path, name)
}

// A full disk is remembered for a moment, because the first Put that meets it
// removes its partial, and its siblings would then see room again.
const fullFor = 5 * time.Second

// full asks, after a request has failed for no stated reason, whether the disk
// is full.
func (r *Remote) full() bool {
	const little = 1 << 20
	if r.wasFull() {
		return true
	}
	if !r.has(extStatVFS) {
		return false
	}
	vfs, err := r.client.StatVFS(r.cfg.Path)
	if err != nil || vfs.Bavail*vfs.Frsize >= little && (vfs.Files == 0 || vfs.Favail > 0) {
		return r.wasFull() // another Put may have made room since it failed
	}
	now := time.Now()
	r.lastFull.Store(&now)
	return true
}

func (r *Remote) wasFull() bool {
	last := r.lastFull.Load()
	return last != nil && time.Since(*last) < fullFor
}
