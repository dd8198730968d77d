package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
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

// The tests need other processes: writers, and copiers that are killed or have
// fewer rights.
func TestMain(m *testing.M) {
	roles := map[string]forktest.Role{}
	for name, play := range map[string]func(job) error{
		"writer": beWriter, "puppet": bePuppet, "copier": beCopier, "preflight": bePreflight,
	} {
		roles[name] = forktest.JSON(func(j job) error {
			if j.DropChown {
				return dropChown(j)
			}
			err := play(j)
			if err != nil { // tests read what a child says, line by line
				fmt.Println("error", err)
			}
			return err
		})
	}
	os.Exit(forktest.Main(m.Run, roles))
}

// dropChown starts this process again without CAP_CHOWN: what an unprivileged
// container gives to root.
func dropChown(j job) error {
	runtime.LockOSThread() // capabilities are a thread's, and exec keeps the caller's
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_CHOWN, 0, 0, 0); err != nil {
		return err
	}
	j.DropChown = false
	return forktest.Become(j)
}

// child is a writer, a puppet or a copier.
type child struct{ *forktest.Child }

func closeChild(c *child) { c.Close() }

type childOption func(*exec.Cmd)

func asUser(uid uint32) childOption { return func(cmd *exec.Cmd) { forktest.As(int(uid), cmd) } }

func withEnv(entry string) childOption {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, entry) }
}

// start runs a child that dies with the test.
func start(t testing.TB, role string, j job, options ...childOption) *child {
	t.Helper()
	cmd := forktest.Command(role, j)
	for _, o := range options {
		o(cmd)
	}
	return &child{forktest.Start(t, cmd)}
}

// do sends a puppet a command and returns its answer.
func (c *child) do(t testing.TB, format string, args ...any) string {
	t.Helper()
	fmt.Fprintf(c.Stdin, format+"\n", args...)
	answer := c.Line()
	if rest, ok := strings.CutPrefix(answer, "error "); ok {
		t.Fatalf(format+": %s", append(args, rest)...)
	}
	return answer
}

// openPlain opens a database as an application does, without this package's
// defences.
func openPlain(path, query string) (*sql.DB, error) {
	name, err := dataSource(path, query+"&_error_rc=1")
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, db.Ping()
}

// liveAt opens the place of a database for the rest of the process.
func liveAt(path string) Live {
	l, err := OpenLive(path, tree.Trusted(""))
	if err != nil {
		panic(err)
	}
	return l
}

// store is the database that writers write: every transaction adds a row to
// ledger, overwrites some others, and counts itself in state, so that a copy
// which is not one instant disagrees with itself.
type store struct {
	db   *sql.DB
	last int64
}

func openStore(j job) (*store, error) {
	db, err := openPlain(j.Path, "mode=rwc&_pragma=busy_timeout(60000)")
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
	_, peekErr := Peek(context.Background(), liveAt(j.Path), j.BusyTimeout)
	copied, err := Copy(context.Background(), liveAt(j.Path), j.Dst, CopyOptions{BusyTimeout: j.BusyTimeout})
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
	if err := Preflight(liveAt(j.Path)); err != nil {
		return err
	}
	fmt.Println("ok")
	return nil
}
