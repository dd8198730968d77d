package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"          // what the driver runs on, in the version that it asks for
	sqlite "modernc.org/sqlite" // the driver "sqlite"; only this package and internal/history import it
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// What a database of somebody else may cost. A value longer than maxValue, or
// more memory than maxHeap, ends the statement that needs it with an error of
// SQLite's: an expression in an index may ask for gigabytes.
const (
	maxValue   = 128 << 20 // bytes of a row, of a text or of a blob
	maxSQL     = 16 << 20  // bytes of a statement, so of a table's declaration
	maxPattern = 250       // bytes of a LIKE's or GLOB's pattern: it costs as much for each byte of the text
	maxHeap    = 512 << 20 // of all of SQLite's connections in this process together
)

// defences are for every connection. The schema may be anybody's: nothing in it
// runs that could do more than compute, damage inside a page is found, and the
// database cannot be made to damage itself. Without _error_rc a failed open also
// says "out of memory", which is only what an older message buffer held.
var defences = fmt.Sprintf("_defensive=1&_pragma=trusted_schema(off)&_pragma=cell_size_check(on)"+
	"&_pragma=hard_heap_limit(%d)&_error_rc=1", maxHeap)

// connector opens connections that are proven and limited before the first
// statement: database/sql opens another one by itself where one was interrupted.
type connector struct {
	driver.Connector
	path string
	live *opened // nil for a file of this program's
}

// opened is what SQLite must have opened of somebody else's.
type opened struct {
	dir *tree.Dir // the connector's own: SQLite goes through it while a connection is open
	id  tree.ID
}

// newConnector takes live over.
func newConnector(path, query string, live *opened) (_ *connector, err error) {
	at, c := path, &connector{path: path, live: live}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if live != nil {
		at = live.dir.ProcPath(filepath.Base(path))
	}
	name, err := dataSource(at, query+"&"+defences)
	if err != nil {
		return nil, err
	}
	c.Connector, err = sqlite.NewConnector(name)
	return c, err
}

// Close releases the directory; database/sql calls it once the connections are closed.
func (c *connector) Close() error {
	if c.live == nil {
		return nil
	}
	return c.live.dir.Close()
}

// Connect opens a connection. What lies at the name may have been exchanged since
// it was looked at, so the file that SQLite has opened is compared before anything
// of it is used.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.prepare(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (c *connector) prepare(conn driver.Conn) error {
	h, err := handleOf(conn)
	if err != nil {
		return err
	}
	if c.live != nil {
		got, err := h.mainFile()
		if err != nil {
			return err
		}
		if got != c.live.id {
			return fmt.Errorf("%s %w", c.path, tree.ErrSwapped)
		}
	}
	h.limit(sqlite3.SQLITE_LIMIT_LENGTH, maxValue)
	h.limit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, maxSQL)
	h.limit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, maxPattern)
	h.limit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
	return nil
}

// handle is SQLite's own handle of a connection, which the driver has no method
// for: the calls that are needed here are made through its fields.
type handle struct {
	db  uintptr
	tls *libc.TLS
}

func handleOf(conn any) (h handle, err error) {
	v := reflect.ValueOf(conn)
	var db, tls reflect.Value
	if v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		db, tls = v.Elem().FieldByName("db"), v.Elem().FieldByName("tls")
	}
	if !db.IsValid() || !tls.IsValid() || db.Kind() != reflect.Uintptr || tls.Type() != reflect.TypeFor[*libc.TLS]() {
		return h, fmt.Errorf("the SQLite driver's connection %T is not the one that this program was built for", conn)
	}
	return handle{uintptr(db.Uint()), (*libc.TLS)(tls.UnsafePointer())}, nil
}

func (h handle) limit(id, most int32) { sqlite3.Xsqlite3_limit(h.tls, h.db, id, most) }

// mainFile returns the identity of the file that SQLite has opened.
func (h handle) mainFile() (id tree.ID, err error) {
	file := new(*sqlite3.TunixFile)
	const main = 0 // no name is the main database's
	code := sqlite3.Xsqlite3_file_control(h.tls, h.db, main, sqlite3.SQLITE_FCNTL_FILE_POINTER,
		uintptr(unsafe.Pointer(file)))
	runtime.KeepAlive(file)
	if code != sqlite3.SQLITE_OK || *file == nil {
		return id, fmt.Errorf("SQLite does not tell which file it has opened (error %d)", code)
	}
	var st unix.Stat_t
	err = unix.Fstat(int((*file).Fh), &st)
	return tree.ID{Dev: st.Dev, Ino: st.Ino}, err
}

// remove takes a function away from the connection.
func (h handle) remove(name string, arguments int32) error {
	text, err := libc.CString(name)
	if err != nil {
		return err
	}
	defer libc.Xfree(h.tls, text)
	code := sqlite3.Xsqlite3_create_function(h.tls, h.db, text, arguments, sqlite3.SQLITE_UTF8, 0, 0, 0, 0)
	if code != sqlite3.SQLITE_OK {
		return fmt.Errorf("SQLite does not part with %s (error %d)", name, code)
	}
	return nil
}
