package snapshot

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// beWriter commits for ever and says each number once it is committed. Each
// transaction adds a row and counts it elsewhere, so that a copy that is not
// one instant disagrees with itself.
func beWriter(j job) error {
	db, err := openLive(j.Sources.DB, time.Minute)
	if err != nil {
		return err
	}
	for _, s := range []string{"PRAGMA synchronous = OFF", "PRAGMA wal_autocheckpoint = 50",
		"CREATE TABLE ledger(id INTEGER PRIMARY KEY, pad BLOB)", "CREATE TABLE state(last INTEGER)",
		"INSERT INTO state VALUES(0)"} {
		if _, err := db.Exec(s); err != nil {
			return err
		}
	}
	for i := 1; ; i++ {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		for _, s := range []string{"INSERT INTO ledger VALUES(?1, randomblob(500))", "UPDATE state SET last = ?1"} {
			if _, err := tx.Exec(s, i); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		fmt.Println(i)
		time.Sleep(time.Millisecond)
	}
}

// A snapshot holds all that was committed before it began, under a writer in
// another process, and is one instant.
func TestTakeUnderAWriter(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			in := install(t)
			execDB(t, in.src.DB, "PRAGMA journal_mode = "+mode)
			w := start(t, "write", job{Sources: in.src})
			for range 2 {
				committed := 0
				for range 20 {
					var err error
					committed, err = strconv.Atoi(w.Line())
					must(t, err)
				}
				snap := in.mustTake(t, TakeOptions{})
				db := filepath.Join(snap.Path, DBFile)
				rows := countRows(t, db, "ledger")
				if rows < committed || countRows(t, db, "ledger WHERE id > (SELECT last FROM state)") != 0 ||
					countRows(t, db, fmt.Sprintf("state WHERE last = %d", rows)) != 1 {
					t.Errorf("%d were committed, the copy has %d", committed, rows)
				}
				wantMethod := map[string]string{"wal": "wal-copy", "delete": "backup-api"}[mode]
				if a := snap.Manifest.Artifacts[DB]; a.Method != wantMethod ||
					snap.Manifest.DB.JournalModeOfSource != mode {
					t.Errorf("%+v, %+v", a, snap.Manifest.DB)
				}
			}
			if stamps := in.published(t); len(stamps) != 2 {
				t.Errorf("published %q", stamps)
			}
		})
	}
}
