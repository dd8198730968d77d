package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// interrupted is a connector in which something happens between SQLite's open of
// the database and that of what lies beside it.
type interrupted struct {
	driver.Connector
	happens func()
}

func (c interrupted) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	c.happens()
	return conn, err
}

// applicationsWAL makes a database in WAL mode, without a -wal, in a directory of
// the application's.
func applicationsWAL(t *testing.T) (path string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "live")
	path = filepath.Join(dir, "atocore.db")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = db.Exec("PRAGMA journal_mode = wal; CREATE TABLE t (a)"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), os.Chown(path, appUID, appUID), os.Chown(dir, appUID, appUID),
		os.Chown(filepath.Dir(dir), appUID, appUID)); err != nil {
		t.Fatal(err)
	}
	return path
}

// read opens a live database, and reads once.
func read(t *testing.T, path, query string, happens func()) error {
	t.Helper()
	return readAfter(t, path, query, func() {}, happens)
}

// readAfter is read where something happens before SQLite's first open as well.
func readAfter(t *testing.T, path, query string, before, happens func()) error {
	t.Helper()
	l, err := OpenLive(path, tree.Trusted(""))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := l.Dir.Lstat(l.Name)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := l.Dir.OpenDir(".")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConnector(l.Path(), query, &opened{dir, info.ID})
	if err != nil {
		t.Fatal(err)
	}
	c.Connector = interrupted{c.Connector, happens}
	before()
	db := sql.OpenDB(c)
	defer db.Close()
	var n int
	return db.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&n)
}

var queries = map[string]string{"ro": readOnly(0), "rw": "mode=rw"}

// The directory of a live database is exchanged between the open of the file and of
// what lies beside it: SQLite goes on in the one that it was.
func TestSQLiteStaysInItsDirectory(t *testing.T) {
	for name, query := range queries {
		t.Run(name, func(t *testing.T) {
			path := applicationsWAL(t)
			live, victim := filepath.Dir(path), t.TempDir()
			// SQLite looks at the mode of a database there before it makes a -wal.
			if err := os.WriteFile(filepath.Join(victim, "atocore.db"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			before := fsxtest.State(t, victim)
			err := read(t, path, query, func() {
				if err := errors.Join(os.Rename(live, live+".mine"), os.Symlink(victim, live)); err != nil {
					t.Fatal(err)
				}
			})
			if err != nil {
				t.Error(err)
			}
			if after := fsxtest.State(t, victim); after != before {
				t.Errorf("the victim was\n%s\nand is\n%s", before, after)
			}
			if made, err := stateOf(live + ".mine/atocore.db-shm"); query == readOnly(0) &&
				(!made.exists || made.owner != appUID || err != nil) {
				t.Errorf("the -shm is not where it belongs: %+v, %v", made, err)
			}
		})
	}
}

// What is no file, or has another name elsewhere, is put in the place of each file of
// SQLite's between its opens: none waits, and nothing is written through it.
func TestSQLiteOpensOnlyFiles(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("root's"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-journal", "-wal", "-shm"} {
		for kind, lay := range map[string]func(path string) error{
			"FIFO":                     func(path string) error { return unix.Mkfifo(path, 0o666) },
			"FIFO that is only read":   func(path string) error { return unix.Mkfifo(path, 0o400) },
			"link":                     func(path string) error { return os.Symlink(victim, path) },
			"hard link":                func(path string) error { return os.Link(victim, path) },
			"directory":                func(path string) error { return os.Mkdir(path, 0o755) },
			"link that leads nowhere":  func(path string) error { return os.Symlink(victim+".new", path) },
			"link to one of its files": func(path string) error { return os.Symlink("atocore.db", path) },
		} {
			for name, query := range queries {
				t.Run(suffix+"/"+kind+"/"+name, func(t *testing.T) {
					t.Parallel()
					path := applicationsWAL(t)
					ended := make(chan error, 1)
					go func() {
						ended <- read(t, path, query, func() {
							if err := lay(path + suffix); err != nil {
								t.Error(err)
							}
						})
					}()
					select {
					case err := <-ended:
						t.Logf("it ended: %v", err)
					case <-time.After(time.Minute):
						t.Fatal("it waits")
					}
					if data, err := os.ReadFile(victim); err != nil || string(data) != "root's" {
						t.Errorf("the victim says %q, %v", data, err)
					}
					if _, err := os.Lstat(victim + ".new"); err == nil {
						t.Error("a file was made behind the link")
					}
				})
			}
		}
	}
}

// The database itself is exchanged before SQLite opens it.
func TestExchangedDatabaseIsNotRead(t *testing.T) {
	for kind, lay := range map[string]func(path string) error{
		"FIFO":         func(path string) error { return unix.Mkfifo(path, 0o400) },
		"link":         func(path string) error { return os.Symlink(path+".mine", path) },
		"another file": func(path string) error { return os.WriteFile(path, make([]byte, 4096), 0o644) },
	} {
		for name, query := range queries {
			t.Run(kind+"/"+name, func(t *testing.T) {
				path := applicationsWAL(t)
				err := readAfter(t, path, query, func() {
					if err := errors.Join(os.Rename(path, path+".mine"), lay(path)); err != nil {
						t.Fatal(err)
					}
				}, func() {})
				if err == nil {
					t.Error("it was opened")
				}
			})
		}
	}
}
