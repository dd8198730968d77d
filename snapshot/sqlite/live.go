package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// Live is the place of a database that an application may be using: a directory
// that was opened once, and the file's name in it. The application owns the
// directory, so nothing there is reached by its path: SQLite, too, goes through the
// handle.
type Live struct {
	Dir  *tree.Dir
	Name string
}

// OpenLive resolves the configured path of a live database. A link is followed
// where only the owners could have made it; see tree.Open. The file may be
// missing.
func OpenLive(path string, owners tree.Owners) (Live, error) {
	dir, name, err := tree.OpenParent(path, owners)
	if err != nil && failure.KindOf(err) != failure.Refused {
		err = unreadable(path, err)
	}
	return Live{dir, name}, err
}

// Close releases the directory. It may be called on the zero Live.
func (l Live) Close() error { return l.Dir.Close() }

// Path returns the path of the file with every link resolved, for messages.
func (l Live) Path() string { return l.Dir.Name(l.Name) }

// OpenReadOnly opens the database for reading, waiting up to busy for other
// processes' locks.
func (l Live) OpenReadOnly(ctx context.Context, busy time.Duration) (*sql.DB, error) {
	return l.open(ctx, readOnly(busy))
}

// OpenReadWrite opens the database for writing; it never creates one.
func (l Live) OpenReadWrite(ctx context.Context, busy time.Duration) (*sql.DB, error) {
	return l.open(ctx, fmt.Sprintf("mode=rw&_pragma=busy_timeout(%d)", busy.Milliseconds()))
}

func (l Live) open(ctx context.Context, query string) (*sql.DB, error) {
	info, err := l.Dir.Lstat(l.Name)
	if err != nil {
		return nil, err
	}
	if err := l.checkBeside(); err != nil {
		return nil, err
	}
	dir, err := l.Dir.OpenDir(".")
	if err != nil {
		return nil, err
	}
	return open(ctx, l.Path(), query, &opened{dir, info.ID})
}

// checkBeside names what lies in the place of a file of SQLite's and is none; SQLite,
// which would not open it, does not say which it is.
func (l Live) checkBeside() error {
	for _, suffix := range []string{"-journal", "-wal", "-shm"} {
		info, err := l.Dir.Lstat(l.Name + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Type != 0 {
			return &failure.Error{Op: "open database", Subject: l.Path() + suffix, Kind: failure.Refused,
				Err:  errors.New("it is no regular file, as one of SQLite's would be"),
				Hint: "see what it is and who made it, and remove it: ls -l " + l.Path() + suffix}
		}
	}
	return nil
}

// raw opens the database, or with a suffix a file beside it, past SQLite.
func (l Live) raw(suffix string) (*os.File, error) { return l.Dir.OpenFile(l.Name + suffix) }

// state looks at the database, or with a suffix at a file beside it, without
// opening it. A missing one is no error.
func (l Live) state(suffix string) (fileState, error) {
	info, err := l.Dir.Lstat(l.Name + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return fileState{}, nil
	}
	return fileState{
		exists: err == nil,
		id:     info.ID,
		size:   info.Size,
		mtime:  info.MTime.UnixNano(),
		owner:  info.UID,
	}, err
}

// held has an entry for every source in use by this package, closed at the end
// of the use.
var held = struct {
	sync.Mutex
	sources map[tree.ID]chan struct{}
}{sources: map[tree.ID]chan struct{}{}}

// hold makes this goroutine the only one of this package that uses a live
// database file: a second use would close descriptors under the first one's
// locks. It opens nothing.
func (l Live) hold(ctx context.Context) (release func(), err error) {
	info, err := l.Dir.Lstat(l.Name)
	if err != nil {
		return nil, unreadable(l.Path(), err)
	}
	for {
		held.Lock()
		using, busy := held.sources[info.ID]
		if !busy {
			done := make(chan struct{})
			held.sources[info.ID] = done
			held.Unlock()
			return func() {
				held.Lock()
				delete(held.sources, info.ID)
				held.Unlock()
				close(done)
			}, nil
		}
		held.Unlock()
		select {
		case <-using:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
