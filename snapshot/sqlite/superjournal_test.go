package sqlite

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"golang.org/x/sys/unix"
)

// A journal that names a super-journal is not handed to SQLite, which would open
// what it names: here a FIFO, on which it would wait for ever.
func TestSuperJournalIsRefused(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "x-mj0123459AB")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	record := binary.BigEndian.AppendUint32(nil, 1)
	sum := uint32(0)
	for _, b := range []byte(fifo) {
		sum += uint32(b)
	}
	record = append(record, fifo...)
	record = binary.BigEndian.AppendUint32(record, uint32(len(fifo)))
	record = binary.BigEndian.AppendUint32(record, sum)
	for name, c := range map[string]struct {
		journal []byte
		refused bool
	}{
		"none":             {nil, false},
		"short":            {[]byte("\xd9\xd5\x05"), false},
		"a plain journal":  {make([]byte, 1024), false},
		"a super-journal":  {append(append(make([]byte, 512), record...), superMagic...), true},
		"its magic alone":  {[]byte(superMagic), true},
		"not at the end":   {append([]byte(superMagic), 0), false},
		"another checksum": {append(append(make([]byte, 512), record[:len(record)-1]...), "x"+superMagic...), true},
	} {
		path := filepath.Join(t.TempDir(), "copy.db")
		if c.journal != nil {
			if err := os.WriteFile(path+journalSuffix, c.journal, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := refuseSuperJournal(path); errors.Is(err, errSuperJournal) != c.refused || !c.refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.refused {
			for what, settle := range map[string]func() error{
				"rollBack":    func() error { return rollBack(t.Context(), path) },
				"OpenPrivate": func() error { _, err := OpenPrivate(t.Context(), path); return err },
			} {
				if err := settle(); !errors.Is(err, errSuperJournal) {
					t.Errorf("%s: %s: %v", name, what, err)
				}
			}
		}
	}
}

// A view in the place of a table costs what a check may cost, and no more.
func TestQueryThatNeverEnds(t *testing.T) {
	defer func(was time.Duration) { minBudget = was }(minBudget)
	minBudget = 100 * time.Millisecond
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE VIEW memories AS
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n`); err != nil {
		t.Fatal(err)
	}
	_, err = QueryTrue(t.Context(), path, tree.Trusted(""), "SELECT count(*) > 0 FROM memories")
	if !errors.Is(err, errQueryBudget) {
		t.Errorf("%v", err)
	}
}
