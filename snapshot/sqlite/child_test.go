package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// The tests need other processes: writers, and copiers that are killed or have
// fewer rights. They are this test binary again, told by roleEnv what to be.
const (
	roleEnv = "SQLITE_TEST_ROLE"
	jobEnv  = "SQLITE_TEST_JOB"
)

// job is what a child is told.
type job struct {
	Path, Dst   string
	Journal     string        // journal mode of a writer
	Pragmas     []string      // run by a writer after opening
	Pause       time.Duration // between two transactions of a writer
	DropChown   bool          // lose CAP_CHOWN first
	BusyTimeout time.Duration
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(jobEnv)), &j); err != nil {
		panic(err)
	}
	if j.DropChown {
		dropChown(j)
	}
	if err := map[string]func(job) error{"writer": beWriter, "puppet": bePuppet, "copier": beCopier, "preflight": bePreflight}[role](j); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// dropChown starts this process again without CAP_CHOWN: what an unprivileged
// container gives to root.
func dropChown(j job) {
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_CHOWN, 0, 0, 0); err != nil {
		panic(err)
	}
	j.DropChown = false
	text, _ := json.Marshal(j)
	os.Setenv(jobEnv, string(text))
	panic(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
}

// child is a running copy of this test binary.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
}

type childOption func(*exec.Cmd)

func asUser(uid uint32) childOption {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
}

func withEnv(entry string) childOption {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, entry) }
}

// start runs a child that dies with the test.
func start(t testing.TB, role string, j job, options ...childOption) *child {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	// By this name it can be run by users who cannot search the build directory.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, jobEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	for _, o := range options {
		o(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, stdin: stdin, out: bufio.NewScanner(stdout)}
	t.Cleanup(c.kill)
	return c
}

// kill ends the child as a crash would, and waits for it.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// close ends a writer or puppet in order: it closes its database.
func (c *child) close() {
	c.t.Helper()
	c.stdin.Close()
	for c.out.Scan() {
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("child: %v", err)
	}
}

func (c *child) line() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatal("the child said nothing more")
	}
	return c.out.Text()
}

// do gives a puppet a command and returns its answer.
func (c *child) do(format string, args ...any) string {
	c.t.Helper()
	fmt.Fprintf(c.stdin, format+"\n", args...)
	answer := c.line()
	if rest, ok := strings.CutPrefix(answer, "error "); ok {
		c.t.Fatalf(format+": %s", append(args, rest)...)
	}
	return answer
}

// store is the database that writers write: every transaction adds a row to
// ledger, overwrites some others, and counts itself in state, so that a copy
// which is not one instant disagrees with itself.
type store struct {
	db   *sql.DB
	last int64
}

func openStore(j job) (*store, error) {
	db, err := open(context.Background(), j.Path, "mode=rwc&_pragma=busy_timeout(60000)")
	if err != nil {
		return nil, err
	}
	s := &store{db: db}
	for _, q := range append(j.Pragmas,
		"PRAGMA journal_mode = "+j.Journal,
		"PRAGMA synchronous = off", // the machine does not crash in these tests, processes do
		"CREATE TABLE IF NOT EXISTS ledger(id INTEGER PRIMARY KEY, pad BLOB)",
		"CREATE TABLE IF NOT EXISTS state(one INTEGER PRIMARY KEY, last INTEGER, total INTEGER)",
		"INSERT OR IGNORE INTO state VALUES(1, 0, 0)") {
		if _, err := db.Exec(q); err != nil {
			return nil, fmt.Errorf("%s: %w", q, err)
		}
	}
	return s, db.QueryRow("SELECT last FROM state").Scan(&s.last)
}

// commit makes n transactions.
func (s *store) commit(n int) error {
	for range n {
		tx, err := s.db.Begin()
		if err != nil {
			return err
		}
		id := s.last + 1
		for _, q := range []string{
			"INSERT INTO ledger VALUES(?1, randomblob(3000))",
			"UPDATE ledger SET pad = randomblob(3000) WHERE id IN (?1 * 7 % 1000, ?1 * 31 % 5000, ?1 / 2)",
			"UPDATE state SET last = ?1, total = total + ?1",
		} {
			if _, err := tx.Exec(q, id); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		s.last = id
	}
	return nil
}

// fill adds n rows in one transaction.
func (s *store) fill(n int) error {
	_, err := s.db.Exec(`BEGIN;
		WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM c WHERE i < ?1)
		INSERT INTO ledger SELECT i + (SELECT last FROM state), randomblob(3000) FROM c;
		UPDATE state SET last = (SELECT max(id) FROM ledger), total = (SELECT sum(id) FROM ledger);
		COMMIT`, n)
	if err != nil {
		return err
	}
	return s.db.QueryRow("SELECT last FROM state").Scan(&s.last)
}

// beWriter commits until its input ends, and says each number once committed.
func beWriter(j job) error {
	s, err := openStore(j)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		mu.Lock() // between two transactions
		s.db.Close()
		os.Exit(0)
	}()
	for {
		mu.Lock()
		if err := s.commit(1); err != nil {
			return err
		}
		fmt.Println(s.last)
		mu.Unlock()
		if j.Pause > 0 {
			<-time.After(j.Pause)
		}
	}
}

// bePuppet does what its input says, one answer a line.
func bePuppet(j job) error {
	s, err := openStore(j)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, err := s.obey(in.Text())
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Println(answer)
	}
	return s.db.Close()
}

func (s *store) obey(command string) (string, error) {
	verb, rest, _ := strings.Cut(command, " ")
	var n int
	switch verb {
	case "commit", "fill":
		if _, err := fmt.Sscan(rest, &n); err != nil {
			return "", err
		}
		err := map[string]func(int) error{"commit": s.commit, "fill": s.fill}[verb](n)
		return fmt.Sprint(s.last), err
	case "row": // the first row, its columns by commas
		var a, b, c int
		err := s.db.QueryRow(rest).Scan(&a, &b, &c)
		return fmt.Sprintf("%d,%d,%d", a, b, c), err
	default:
		_, err := s.db.Exec(command)
		return "ok", err
	}
}

func beCopier(j job) error {
	fsxtest.KillIfAsked()
	// As a take does: first a look, which must leave no more behind than the copy.
	_, peekErr := Peek(context.Background(), j.Path, j.BusyTimeout)
	copied, err := Copy(context.Background(), j.Path, j.Dst, CopyOptions{BusyTimeout: j.BusyTimeout})
	if err == nil {
		err = peekErr
	}
	if err != nil {
		return err
	}
	fmt.Println(copied.Method)
	return nil
}

func bePreflight(j job) error {
	if err := Preflight(j.Path); err != nil {
		return err
	}
	fmt.Println("ok")
	return nil
}
