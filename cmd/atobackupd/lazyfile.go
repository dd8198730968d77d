package main

import (
	"errors"
	"io"
	"os"

	"github.com/atocore/atobackupd/internal/failure"
)

// lazyFile is made when its first byte comes, so that a command that fails leaves
// no file. An existing file is never replaced.
type lazyFile struct {
	path   string
	stdout io.Writer
	file   *os.File
	n      int64
}

// Write writes to the file, or to the standard output where its path is "-".
func (l *lazyFile) Write(p []byte) (n int, err error) {
	defer func() { l.n += int64(n) }()
	if l.path == "-" {
		return l.stdout.Write(p)
	}
	if err := l.create(); err != nil {
		return 0, err
	}
	return l.file.Write(p)
}

func (l *lazyFile) create() (err error) {
	if l.file == nil {
		l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	switch {
	case errors.Is(err, os.ErrExist):
		return &failure.Error{Op: "write", Subject: l.path, Err: err, Hint: "name another file, or remove this one"}
	case err != nil:
		return &failure.Error{Op: "write", Subject: l.path, Err: err,
			Hint: "name a file in a directory that is there and can be written"}
	}
	return nil
}

// finish makes the file durable, or removes what there is of it after an error. A
// file without a byte is a file too.
func (l *lazyFile) finish(err error) error {
	if l.path == "-" {
		return err
	}
	if err == nil {
		err = l.create()
	}
	if l.file == nil {
		return err
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err = errors.Join(err, l.file.Close()); err != nil {
		return errors.Join(err, os.Remove(l.path))
	}
	return nil
}
