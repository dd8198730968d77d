package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// exchanged is a connector after whose open the directory of the database is a link:
// what its owner does who waits for SQLite to have opened the file.
type exchanged struct {
	driver.Connector
	exchange func()
}

func (e exchanged) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := e.Connector.Connect(ctx)
	e.exchange()
	return conn, err
}

// TestNothingIsMadeBesideAnExchangedDatabase exchanges the directory of a live
// database, which has no -wal, between the open of the file and of what lies beside it.
func TestNothingIsMadeBesideAnExchangedDatabase(t *testing.T) {
	for _, c := range []struct {
		name  string
		owner int // of the victim's directory
		made  bool
	}{
		{"root's directory", 0, false},
		{"another user's directory", otherUID, false},
		{"a directory of the owner's, who may do that himself", appUID, true},
	} {
		for query, name := range map[string]string{readOnly(0): "ro", "mode=rw": "rw"} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				base := t.TempDir()
				live, victim := filepath.Join(base, "live"), filepath.Join(base, "victim")
				for dir, owner := range map[string]int{base: appUID, live: appUID, victim: c.owner} {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.Chown(dir, owner, owner); err != nil {
						t.Fatal(err)
					}
				}
				// SQLite looks at the mode of a database there before it makes a -wal. (A
				// -shm needs none, where the exchange comes after the -wal.)
				if err := os.WriteFile(filepath.Join(victim, "atocore.db"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(live, "atocore.db")
				db, err := sql.Open("sqlite", path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.Exec("PRAGMA journal_mode = wal; CREATE TABLE t (a)"); err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(path, appUID, appUID); err != nil {
					t.Fatal(err)
				}
				l, err := OpenLive(path, tree.Trusted(""))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				info, err := l.Dir.Lstat(l.Name)
				if err != nil {
					t.Fatal(err)
				}
				rights, err := l.rights(info)
				if err != nil {
					t.Fatal(err)
				}
				connector, err := newConnector(l.Path(), query, &opened{info.ID, rights})
				if err != nil {
					t.Fatal(err)
				}
				connector.Connector = exchanged{connector.Connector, func() {
					if err := os.Rename(live, live+".mine"); err != nil {
						t.Fatal(err)
					}
					if err := os.Symlink(victim, live); err != nil {
						t.Fatal(err)
					}
				}}
				conn, err := connector.Connect(t.Context())
				if err == nil {
					conn.Close()
				}
				if _, statErr := os.Stat(filepath.Join(victim, "atocore.db-shm")); (statErr == nil) != c.made {
					entries, _ := os.ReadDir(victim)
					t.Errorf("%v was made, and opening says %v", entries, err)
				}
				made := filepath.Join(base, "root")
				if err := os.WriteFile(made, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if after, err := stateOf(made); err != nil || after.owner != os.Geteuid() {
					t.Errorf("the rights were not put back: uid %d, %v", after.owner, err)
				}
			})
		}
	}
}
