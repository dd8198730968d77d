package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// The files that SQLite puts beside a database.
const (
	walSuffix     = "-wal"
	shmSuffix     = "-shm"
	journalSuffix = "-journal"
)

var sidecarSuffixes = []string{walSuffix, shmSuffix, journalSuffix}

const magic = "SQLite format 3\x00"

// header is the first 100 bytes of a database file.
type header [100]byte

// wal reports whether the database is in WAL mode: the read version decides, as in
// SQLite. The other journal modes are not recorded in the file.
func (h header) wal() bool { return h[19] == 2 }

// source is a live database file as it stood when it was last looked at.
type source struct {
	Live
	info   tree.Info
	header header
}

// owner is the user whom the database belongs to.
func (s source) owner() int { return s.info.UID }

// perm are the permissions of the database.
func (s source) perm() fs.FileMode { return fs.FileMode(s.info.Mode).Perm() }

// fail is the one shape of this package's errors about a database.
func fail(path string, kind failure.Kind, err error, hint string) error {
	return &failure.Error{Op: "copy database", Subject: path, Kind: kind, Err: err, Hint: hint}
}

// Preflight reports whether a file can be the source of a Copy: it exists, is a
// regular file, may be read, and starts like a SQLite database. The error is a
// *failure.Error with a hint; a missing file is of kind NotFound. It never creates
// anything, and does not look past the header.
//
// It opens the file raw and waits for a Copy of it in this process to end. Do
// not call it while this process holds a lock on the database by a connection
// of its own.
func Preflight(l Live) error {
	release, err := l.hold(context.Background())
	if err != nil {
		return err
	}
	defer release()
	_, err = l.look()
	return err
}

// look reads what Preflight judges. The caller holds the source.
func (l Live) look() (source, error) {
	info, err := l.Dir.Lstat(l.Name)
	if err != nil {
		return source{}, unreadable(l.Path(), err)
	}
	if !info.IsRegular() {
		return source{}, fail(l.Path(), failure.Other, fmt.Errorf("not a regular file (%s)", info.Type),
			"give the path of the database file itself")
	}
	s := source{Live: l, info: info}
	if s.header, err = l.readHeader(); errors.Is(err, errNotSQLite) {
		return source{}, fail(
			l.Path(),
			failure.Other,
			err,
			"check the path; an encrypted or overwritten database cannot be copied",
		)
	} else if err != nil {
		return source{}, unreadable(l.Path(), err)
	}
	return s, nil
}

// errNotSQLite is of a file that does not start as a database does.
var errNotSQLite = errors.New("not a SQLite database")

// readHeader reads the header of a stored database.
func readHeader(path string) (h header, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return h, err
	}
	defer f.Close()
	return headerOf(f)
}

func (l Live) readHeader() (h header, err error) {
	f, err := l.raw("")
	if err != nil {
		return h, err
	}
	defer f.Close()
	return headerOf(f)
}

func headerOf(f *os.File) (h header, err error) {
	switch n, err := f.ReadAt(h[:], 0); {
	case n == 0 && errors.Is(err, io.EOF):
		return h, fmt.Errorf("%w: the file is empty", errNotSQLite)
	case errors.Is(err, io.EOF):
		return h, fmt.Errorf("%w: the file has only %d bytes", errNotSQLite, n)
	case err != nil:
		return h, err
	}
	if string(h[:len(magic)]) != magic {
		return h, fmt.Errorf("%w: its header is not one", errNotSQLite)
	}
	return h, nil
}

// unreadable explains an error of the file system without naming the path
// twice.
func unreadable(path string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(path, failure.NotFound, err, "check the path, and that its file system is mounted")
	case errors.Is(err, fs.ErrPermission):
		return fail(path, failure.Other, err,
			fmt.Sprintf("let uid %d read the file and search the directories above it", os.Geteuid()))
	}
	return fail(path, failure.Other, err, "")
}
