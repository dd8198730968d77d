package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
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
	path   string // with symbolic links resolved: that is where SQLite puts the -wal
	info   os.FileInfo
	header header
}

// same reports whether info is of the file that the source was.
func (s source) same(info os.FileInfo) bool { return os.SameFile(s.info, info) }

// owner is the user whom the database belongs to.
func (s source) owner() int { return int(s.info.Sys().(*syscall.Stat_t).Uid) }

// fail is the one shape of this package's errors about a database.
func fail(path string, kind failure.Kind, err error, hint string) error {
	return &failure.Error{Op: "copy database", Subject: path, Kind: kind, Err: err, Hint: hint}
}

// Preflight reports whether path can be the source of a Copy: it exists, is a
// regular file (or a symbolic link to one), may be read, and starts like a
// SQLite database. The error is a *failure.Error with a hint; a missing file is
// of kind NotFound. It never creates anything, and does not look past the
// header.
//
// It opens the file raw and waits for a Copy of it in this process to end. Do
// not call it while this process holds a lock on the database by a connection
// of its own.
func Preflight(path string) error {
	resolved, release, err := hold(context.Background(), path)
	if err != nil {
		return err
	}
	defer release()
	_, err = look(resolved)
	return err
}

// look reads what Preflight judges. The caller holds the source.
func look(path string) (source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return source{}, unreadable(path, err)
	}
	if !info.Mode().IsRegular() { // before the open: a FIFO would block it
		return source{}, fail(path, failure.Other, fmt.Errorf("not a regular file (%s)", info.Mode().Type()),
			"give the path of the database file itself")
	}
	s := source{path: path, info: info}
	if s.header, err = readHeader(path); errors.Is(err, errNotSQLite) {
		return source{}, fail(
			path,
			failure.Other,
			err,
			"check the path; an encrypted or overwritten database cannot be copied",
		)
	} else if err != nil {
		return source{}, unreadable(path, err)
	}
	return s, nil
}

// errNotSQLite is of a file that does not start as a database does.
var errNotSQLite = errors.New("not a SQLite database")

func readHeader(path string) (h header, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return h, err
	}
	defer f.Close()
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

// fileID tells files apart whatever name they are reached by.
type fileID struct{ device, inode uint64 }

// held has an entry for every source in use by this package, closed at the end
// of the use.
var held = struct {
	sync.Mutex
	sources map[fileID]chan struct{}
}{sources: map[fileID]chan struct{}{}}

// hold makes this goroutine the only one of this package that uses a live
// database file, and resolves its path: a second use would close descriptors
// under the first one's locks. It opens nothing.
func hold(ctx context.Context, path string) (resolved string, release func(), err error) {
	if resolved, err = filepath.EvalSymlinks(path); err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return "", nil, unreadable(path, err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(resolved, &stat); err != nil {
		return "", nil, unreadable(path, err)
	}
	id := fileID{stat.Dev, stat.Ino}
	for {
		held.Lock()
		using, busy := held.sources[id]
		if !busy {
			done := make(chan struct{})
			held.sources[id] = done
			held.Unlock()
			return resolved, func() {
				held.Lock()
				delete(held.sources, id)
				held.Unlock()
				close(done)
			}, nil
		}
		held.Unlock()
		select {
		case <-using:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
	}
}
