package chroma

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// Locks that this process holds do not show to itself, so what others see is
// asked in another process: this test binary, run again with a task.
const taskEnv = "CHROMA_TEST_TASK"

func TestMain(m *testing.M) {
	if task := os.Getenv(taskEnv); task != "" {
		if err := runTask(task, os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runTask does one thing to the database or directory args[0].
func runTask(task string, args []string) error {
	switch task {
	case "copy": // live copy of args[0] to args[1]
		c, err := CopyLive(context.Background(), args[0], args[1], Options{LockDeadline: time.Minute})
		fmt.Println(c.Method)
		return err
	case "freeze": // copy of args[0] to args[1] while the pretended service args[2] is frozen
		fsxtest.KillIfAsked()
		_, err := CopyFrozen(context.Background(), args[0], args[1], service{args[2]}.freeze(), Options{})
		return err
	case "btrfs": // copy of args[0] to args[1] by a subvolume snapshot in args[2]
		fsxtest.KillIfAsked()
		_, err := CopyBtrfs(context.Background(), args[0], args[1], args[2], Options{Share: true})
		return err
	case "write": // whether the write lock can be had
		return onDatabase(args[0], "BEGIN IMMEDIATE", "ROLLBACK")
	case "hold": // hold the write lock until the parent closes the pipe
		return onDatabase(args[0], "BEGIN IMMEDIATE", "")
	case "crash": // die in mid-transaction with pages already in the database
		return onDatabase(args[0], "PRAGMA cache_size = 1", "PRAGMA cache_spill = 1", "BEGIN IMMEDIATE",
			"UPDATE embedding_metadata SET string_value = hex(randomblob(400))", "DELETE FROM embeddings", "")
	}
	return fmt.Errorf("no task %q", task)
}

// onDatabase runs statements; an empty one says so and waits for the parent.
func onDatabase(path string, statements ...string) error {
	db, err := sqlite.OpenReadWrite(path, 0)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range statements {
		if s == "" {
			fmt.Println("waiting")
			_, _ = io.Copy(io.Discard, os.Stdin)
		} else if _, err := db.Exec(s); err != nil {
			return err
		}
	}
	return nil
}

// helper gives a command that does a task in another process.
func helper(t testing.TB, task string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), taskEnv+"="+task)
	return cmd
}

// helperWaiting starts a task that waits, and gives a function that kills it.
func helperWaiting(t testing.TB, task string, args ...string) (kill func()) {
	t.Helper()
	cmd := helper(t, task, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		in.Close()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "waiting\n" {
		t.Fatalf("%s: %q, %v", task, line, err)
	}
	return kill
}

// otherMayWrite asks in another process whether the write lock is free.
func otherMayWrite(t testing.TB, dir string) bool {
	t.Helper()
	out, err := helper(t, "write", databaseIn(dir)).CombinedOutput()
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
	// The test binary lies where only root may look.
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = filepath.Join(filepath.Dir(dir), "helper.test")
	if err := os.WriteFile(cmd.Path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	for up := filepath.Dir(dir); up != filepath.Dir(up) && up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// openDB opens a directory's database for the rest of the test.
func openDB(t testing.TB, dir string) *sql.DB {
	t.Helper()
	db, err := sqlite.OpenReadWrite(databaseIn(dir), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
