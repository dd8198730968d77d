package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// Whoever owns the database's directory cannot have this program wait for ever with a
// FIFO in the place of a file of SQLite's.
func TestFIFOBesideADatabase(t *testing.T) {
	for _, suffix := range []string{"-journal", "-wal", "-shm"} {
		t.Run(suffix, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "live.db")
			db, err := openPlain(path, "mode=rwc")
			if err == nil {
				_, err = db.Exec("CREATE TABLE t (x)")
			}
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(path+suffix, 0o600); err != nil {
				t.Fatal(err)
			}
			live, err := OpenLive(path, tree.Trusted(""))
			if err != nil {
				t.Fatal(err)
			}
			defer live.Close()
			opened, err := live.OpenReadOnly(t.Context(), time.Second)
			if err == nil {
				_ = opened.Close()
			}
			if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), path+suffix) {
				t.Errorf("%v, want it refused by name", err)
			}
		})
	}
}
