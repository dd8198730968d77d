package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
)

// filled makes a history with a few hundred rows and closes it.
func filled(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "history.db")
	db := open(t, path)
	var slots []time.Time
	for i := range 2000 {
		slots = append(slots, noon.Add(time.Duration(i)*time.Hour))
	}
	check(t, db.Missed(t.Context(), "daily", slots))
	check(t, db.Close())
	return path
}

func TestDamagedFileIsMovedAside(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"not a database": func([]byte) []byte { return []byte(strings.Repeat("no history here ", 1000)) },
		"short":          func([]byte) []byte { return []byte("SQLite format 3\x00 and then nothing") },
		"truncated":      func(b []byte) []byte { return b[:len(b)/2] },
		"a zeroed page":  func(b []byte) []byte { copy(b[4096*4:], make([]byte, 4096)); return b },
		"all but the header": func(b []byte) []byte {
			return append(b[:100:100], bytes.Repeat([]byte{0xa5}, len(b)-100)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			broken := damage(must[[]byte](t)(os.ReadFile(path)))
			check(t, os.WriteFile(path, broken, 0o600))
			check(t, os.WriteFile(path+"-journal", []byte("of the old file"), 0o600))
			db := open(t, path)
			aside := db.MovedAside()
			if !strings.HasPrefix(aside, path+".corrupt-2") {
				t.Fatalf("moved to %q", aside)
			}
			if kept := must[[]byte](t)(os.ReadFile(aside)); !bytes.Equal(kept, broken) {
				t.Error("what was moved aside is not what was there")
			}
			check(t, db.Serve(t.Context(), "daily", noon))
			check(t, db.Close())
			if again := open(t, path); again.MovedAside() != "" {
				t.Errorf("the new file was moved as well: %s", again.MovedAside())
			}
		})
	}
}

func TestMoveAsideReplacesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	names := map[string]bool{}
	for range 3 {
		check(t, os.WriteFile(path, []byte("x"), 0o600))
		names[must[string](t)(moveAside(path, ".corrupt-", noon))] = true
	}
	if len(names) != 3 || !names[path+".corrupt-20260407T120000Z"] {
		t.Errorf("moved to %v", names)
	}
}

func TestOneOfManyMovesTheFile(t *testing.T) {
	path := filled(t)
	check(t, os.WriteFile(path, []byte(strings.Repeat("broken", 1000)), 0o600))
	var all []*forktest.Child
	for range 4 {
		all = append(all, forktest.Start(t, forktest.Command("opener", path)))
	}
	moved := 0
	for _, opener := range all {
		if strings.Contains(opener.Line(), ".corrupt-") {
			moved++
		}
		opener.Close()
	}
	if kept := must[[]string](t)(filepath.Glob(path + ".corrupt-*")); moved != 1 || len(kept) != 1 {
		t.Errorf("%d processes moved it, to %v", moved, kept)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filled(t)
	db := open(t, path)
	_, err := db.exec(t.Context(), "PRAGMA user_version = 99")
	check(t, err)
	check(t, db.Close())
	before := must[[]byte](t)(os.ReadFile(path))
	for _, open := range []func(context.Context, string) (*DB, error){Open, OpenReadOnly} {
		_, err := open(t.Context(), path)
		want := "history refused: " + path + ": it was written by a newer atobackupd (schema 99, this one knows 5): " +
			"upgrade atobackupd, or move the file away to start a new one"
		if err == nil || err.Error() != want || failure.KindOf(err) != failure.Config {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if !bytes.Equal(before, must[[]byte](t)(os.ReadFile(path))) {
		t.Error("it was touched")
	}
}

// What each older version wrote is read as it is, changes nothing, and is not
// written.
func TestOlderSchemaIsRead(t *testing.T) {
	for version := range migrations {
		path := filepath.Join(t.TempDir(), "history.db")
		check(t, os.WriteFile(path, nil, 0o600)) // an empty file is an empty database
		old := must[*DB](t)(connect(path, nil))
		for v, statements := range migrations[:version] {
			_, err := old.exec(t.Context(), statements+fmt.Sprintf("PRAGMA user_version = %d", v+1))
			check(t, err)
		}
		if version > 0 {
			_, err := old.exec(t.Context(), `INSERT INTO validations (stamp, checked_at, valid, errors, bytes, `+
				`duration_ms) VALUES ('20260407T060000Z', 5, 0, '["checksum_mismatch: db"]', 1, 1)`)
			check(t, err)
		}
		check(t, old.Close())
		before := must[[]byte](t)(os.ReadFile(path))
		reader := must[*DB](t)(OpenReadOnly(t.Context(), path))
		found := must[[]Validation](t)(reader.Validations(t.Context()))
		if want := min(version, 1); len(found) != want {
			t.Errorf("schema %d: read %+v", version, found)
		}
		if err := reader.LegSucceeded(t.Context(), "snapshot", noon); err == nil {
			t.Errorf("schema %d: it was written", version)
		}
		check(t, reader.Close())
		if !bytes.Equal(before, must[[]byte](t)(os.ReadFile(path))) {
			t.Errorf("schema %d: the file was changed", version)
		}
	}
}

func TestOtherErrorsAreNotDamage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filled(t)
	if _, err := Open(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if kept := must[[]string](t)(filepath.Glob(path + ".corrupt-*")); len(kept) != 0 {
		t.Errorf("a sound file was moved to %v", kept)
	}
}
