// Package apptest makes small installations for tests of the packages that work
// on one.
package apptest

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/crypt"
)

// Make lays out an installation in a directory of its own: a database, a place
// for backups, a vault in a directory, and config.toml with more in it. It
// returns the directory.
func Make(t testing.TB, more string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"data", "vault", "backups"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "data/a.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE t (x); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	identity, recipient, err := crypt.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
state_dir = "%[1]s/state"
[atocore]
db_path = "%[1]s/data/a.db"
[backup]
dir = "%[1]s/backups"
min_free = "1MiB"
[schedule]
scrub = ""
drill = ""
[encryption]
recipients = ["%[2]s"]
[[offsite]]
name = "disk"
type = "dir"
path = "%[1]s/vault"
max_age = "3d"
retry_every = "2h"
%[3]s
[http]
listen = ""
`, dir, recipient, more)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "identity"), []byte(identity), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
