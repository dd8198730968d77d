package chroma

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// Locks that this process holds do not show to itself, so what others see is
// asked in another process, by a task with paths.
func TestMain(m *testing.M) {
	roles := map[string]forktest.Role{}
	for name, task := range tasks {
		roles[name] = forktest.JSON(task)
	}
	os.Exit(forktest.Main(m.Run, roles))
}

var tasks = map[string]func(args []string) error{
	"copy": func(args []string) error { // live copy of args[0] to args[1]
		c, err := CopyLive(context.Background(), dirAt(args[0]), args[1], Options{LockDeadline: time.Minute})
		fmt.Println(c.Method)
		return err
	},
	"freeze": func(args []string) error { // copy of args[0] to args[1] while the pretended service args[2] is frozen
		fsxtest.KillIfAsked()
		_, err := CopyFrozen(context.Background(), dirAt(args[0]), args[1], service{args[2]}.freeze(), Options{})
		return err
	},
	"btrfs": func(args []string) error { // copy of args[0] to args[1] by a subvolume snapshot in args[2]
		fsxtest.KillIfAsked()
		_, err := CopyBtrfs(context.Background(), dirAt(args[0]), args[1], args[2], Options{Share: true})
		return err
	},
	"write": func(args []string) error { // whether the write lock can be had
		return onDatabase(args[0], "BEGIN IMMEDIATE", "ROLLBACK")
	},
	"hold": func(args []string) error { // hold the write lock until the parent closes the pipe
		return onDatabase(args[0], "BEGIN IMMEDIATE", "")
	},
	"crash": func(args []string) error { // die in mid-transaction with pages already in the database
		return onDatabase(args[0], "PRAGMA cache_size = 1", "PRAGMA cache_spill = 1", "BEGIN IMMEDIATE",
			"UPDATE embedding_metadata SET string_value = hex(randomblob(400))", "DELETE FROM embeddings", "")
	},
}

// dirAt opens a live directory for the rest of the process.
func dirAt(path string) *tree.Dir {
	d, err := tree.Open(path, tree.Trusted(""))
	if err != nil {
		panic(err)
	}
	return d
}

// openDatabase opens a database as Chroma does.
func openDatabase(path string, busy time.Duration) (*sql.DB, error) {
	return liveIn(dirAt(filepath.Dir(path))).OpenReadWrite(context.Background(), busy)
}

// onDatabase runs statements; an empty one says so and waits for the parent.
func onDatabase(path string, statements ...string) error {
	db, err := openDatabase(path, 0)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range statements {
		if s == "" {
			_ = forktest.WaitForEnd("waiting")
		} else if _, err := db.Exec(s); err != nil {
			return err
		}
	}
	return nil
}

// helper returns a command that does a task in another process.
func helper(task string, args ...string) *exec.Cmd { return forktest.Command(task, args) }

// helperWaiting starts a task that waits.
func helperWaiting(t testing.TB, task string, args ...string) *forktest.Child {
	t.Helper()
	return forktest.StartWhen(t, "waiting", helper(task, args...))
}

// otherMayWrite asks in another process whether the write lock is free.
func otherMayWrite(t testing.TB, dir string) bool {
	t.Helper()
	out, err := helper("write", databaseIn(dir)).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "locked") {
		t.Fatalf("write: %v: %s", err, out)
	}
	return err == nil
}

// unprivileged makes a command run as somebody who may read dir and write
// nothing in it, whoever runs the tests.
func unprivileged(t testing.TB, cmd *exec.Cmd, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(databaseIn(dir), 0o444); err != nil {
			t.Fatal(err)
		}
		return
	}
	for up := filepath.Dir(dir); up != filepath.Dir(up) && up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	forktest.As(65534, cmd)
}

// openDB opens a directory's database for the rest of the test.
func openDB(t testing.TB, dir string) *sql.DB {
	t.Helper()
	db, err := openDatabase(databaseIn(dir), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
