package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/provetest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(forktest.Main(m.Run, map[string]forktest.Role{
		"write":  forktest.JSON(write),
		"run":    forktest.JSON(beginRun),
		"serve":  forktest.JSON(serve),
		"opener": forktest.JSON(func(path string) error { return with(path, func(*DB) error { return nil }) }),
	}))
}

// with opens a database for a role, and says where a damaged one was moved.
func with(path string, work func(*DB) error) error {
	db, err := Open(context.Background(), path)
	if err != nil {
		return err
	}
	fmt.Println("aside", db.MovedAside())
	return errors.Join(work(db), db.Close())
}

// write records a hundred runs, and nothing may fail for being busy.
func write(path string) error {
	return with(path, func(db *DB) error {
		ctx := context.Background()
		for range 100 {
			id, err := db.Begin(ctx, Run{Job: "daily", StartedAt: noon})
			if err != nil {
				return err
			}
			if err := db.Finish(ctx, Run{ID: id, Job: "daily", StartedAt: noon, FinishedAt: noon, Outcome: OK}); err != nil {
				return err
			}
		}
		return nil
	})
}

// serve says what is safe, until it is killed.
func serve(path string) error {
	return with(path, func(db *DB) error {
		for slot := noon; ; slot = slot.Add(time.Second) {
			if err := db.Serve(context.Background(), "daily", slot); err != nil {
				return err
			}
			fmt.Println("served", slot.Unix())
		}
	})
}

// beginRun begins a run and never ends it.
func beginRun(path string) error {
	return with(path, func(db *DB) error {
		if _, err := db.Begin(context.Background(), Run{Job: "daily", StartedAt: noon}); err != nil {
			return err
		}
		return forktest.WaitForEnd("running")
	})
}

func TestWritersInSeveralProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db") // not there yet: they race for the schema as well
	var writers []*forktest.Child
	for range 3 {
		writers = append(writers, forktest.Start(t, forktest.Command("write", path)))
	}
	db := open(t, path)
	for range 50 { // and a reader that writes a little
		must[[]Run](t)(db.Runs(t.Context(), "", time.Time{}, 10))
		check(t, db.LegSucceeded(t.Context(), "snapshot", noon))
	}
	for _, writer := range writers {
		writer.Close()
	}
	runs := must[[]Run](t)(db.Runs(t.Context(), "daily", time.Time{}, 1000))
	if len(runs) != 300 {
		t.Errorf("%d runs were recorded, want 300", len(runs))
	}
	for _, run := range runs {
		if run.Outcome != OK {
			t.Fatalf("%+v", run)
		}
	}
}

func TestKilledWhileWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	rounds := provetest.Rounds(t, 8)
	for round := range rounds {
		writer := forktest.Start(t, forktest.Command("serve", path))
		var safe int64
		for n := 0; writer.Scan(); n++ {
			if unix, ok := strings.CutPrefix(writer.Text(), "served "); ok {
				safe = must[int64](t)(strconv.ParseInt(unix, 10, 64))
			}
			if n == 20+7*(round%30) {
				check(t, writer.Process.Kill())
			}
		}
		writer.Kill()
		db, err := Open(t.Context(), path)
		check(t, err)
		if db.MovedAside() != "" {
			t.Errorf("round %d: the kill damaged the file", round)
		}
		served, _, err := db.Served(t.Context(), "daily")
		check(t, err)
		if served.Unix() < safe {
			t.Errorf("round %d: it said that %d is safe, and %d is there", round, safe, served.Unix())
		}
		check(t, db.Close())
	}
	provetest.Points(t, rounds)
}

func TestCloseInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := open(t, path)
	mine := must[int64](t)(db.Begin(t.Context(), Run{Job: "mine", StartedAt: noon}))
	other := forktest.Start(t, forktest.Command("run", path))
	for other.Line() != "running" {
	}
	if closed := must[[]Run](t)(db.CloseInterrupted(t.Context(), noon)); len(closed) != 0 {
		t.Errorf("runs of living processes were closed: %+v", closed)
	}
	other.Kill()
	closed := must[[]Run](t)(db.CloseInterrupted(t.Context(), noon.Add(time.Hour)))
	if len(closed) != 1 || closed[0].Job != "daily" || closed[0].Outcome != Interrupted ||
		!closed[0].FinishedAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("closed %+v", closed)
	}
	if again := must[[]Run](t)(db.CloseInterrupted(t.Context(), noon)); len(again) != 0 {
		t.Errorf("closed again: %+v", again)
	}
	check(t, db.Finish(t.Context(), Run{ID: mine, Job: "mine", StartedAt: noon, FinishedAt: noon, Outcome: OK}))
}

func TestAlive(t *testing.T) {
	self := owner()
	part := strings.Split(self, "/")
	for name, want := range map[string]bool{
		self: true,
		"another-boot/" + part[1] + "/" + part[2]: false,
		part[0] + "/" + part[1] + "/1":            false, // the pid came round again
		part[0] + "/4194304999/1":                 false,
		part[0] + "/-1/1":                         false,
		"":                                        false,
	} {
		if alive(name) != want {
			t.Errorf("alive(%q) is %v", name, !want)
		}
	}
}

// A process that has ended and that nobody has waited for is still in /proc.
func TestZombieIsDead(t *testing.T) {
	child := exec.Command("cat")
	in := must[io.WriteCloser](t)(child.StdinPipe())
	check(t, child.Start())
	pid := child.Process.Pid
	name := fmt.Sprintf("%s/%d/%s", bootID(), pid, must[string](t)(startTime(pid)))
	if !alive(name) {
		t.Errorf("%s is dead before its end", name)
	}
	check(t, in.Close())
	var info unix.Siginfo
	check(t, unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil))
	if alive(name) {
		t.Errorf("%s is alive after its end", name)
	}
	check(t, child.Wait())
}

// As another user, who may read the file and write nothing.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "history.db")
	db := open(t, path)
	check(t, db.LegSucceeded(t.Context(), "snapshot", noon))
	check(t, db.Close())
	check(t, os.Chmod(path, 0o444))
	check(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	if os.Geteuid() == 0 {
		check(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755))
		// Permissions do not bind root, so this thread acts as nobody.
		runtime.LockOSThread()
		check(t, syscall.Setfsuid(65534))
		t.Cleanup(func() {
			if err := syscall.Setfsuid(0); err != nil {
				t.Error(err) // and the locked thread dies with the goroutine
				return
			}
			runtime.UnlockOSThread()
		})
	}
	if file, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
		t.Fatal(file.Close(), "the file can be written, so the test proves nothing")
	}
	if _, err := Open(t.Context(), path); err == nil {
		t.Error("it was opened for writing")
	}
	reader, err := OpenReadOnly(t.Context(), path)
	check(t, err)
	if legs := must[[]Leg](t)(reader.Legs(t.Context())); len(legs) != 1 {
		t.Errorf("read %+v", legs)
	}
	if err := reader.LegSucceeded(t.Context(), "snapshot", noon); err == nil {
		t.Error("it was written")
	}
	check(t, reader.Close())
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != 1 {
		t.Errorf("reading left %v", entries)
	}
}
