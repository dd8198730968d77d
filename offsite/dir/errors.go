package dir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// check refuses, before anything is touched, what cannot be done: a name that
// is not a plain path below the root, or a context that has ended. The root
// itself, ".", can only be listed and described.
func (r *Remote) check(ctx context.Context, op, name string) error {
	whole := op == "list" || op == "stat" || op == "ask for free space"
	if !offsite.ValidName(name) || name == "." && !whole {
		return &failure.Error{Op: op, Subject: r.path, Err: &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}}
	}
	if err := ctx.Err(); err != nil {
		return &failure.Error{Op: op, Subject: filepath.Join(r.path, name), Kind: kindOf(err), Err: err}
	}
	return nil
}

// explain gives err its kind and the path that it is about.
func (r *Remote) explain(op, name string, err error) error {
	return explain(op, filepath.Join(r.path, name), err, "")
}

// explain turns err into what an operator can act on; hint is for what is
// missing. nil stays nil.
func explain(op, path string, err error, hint string) error {
	if err == nil {
		return nil
	}
	e := &failure.Error{Op: op, Subject: path, Kind: kindOf(err), Err: cause(err)}
	switch {
	case e.Kind == failure.NotFound:
		e.Hint = hint
	case errors.Is(err, syscall.EDQUOT):
		e.Hint = "raise the quota or prune the vault"
	case e.Kind == failure.NoSpace:
		e.Hint = "free some space on that disk or prune the vault"
	case errors.Is(err, syscall.EROFS):
		e.Hint = "mount the file system read-write; a disk with errors is often remounted read-only"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "give this user read, write and search permission there"
	}
	return e
}

// kindOf maps what the kernel says.
func kindOf(err error) failure.Kind {
	switch {
	case errors.Is(err, context.Canceled):
		return failure.Interrupted
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return failure.NoSpace
	case errors.Is(err, fs.ErrNotExist):
		return failure.NotFound
	}
	return failure.Other
}

// cause drops the path from the kernel's error: the subject has it already.
func cause(err error) error {
	var named *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &link):
		return link.Err
	case errors.As(err, &named):
		return named.Err
	}
	return err
}
