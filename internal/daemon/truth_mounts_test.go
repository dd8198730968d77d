package daemon

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/snapshot"
)

// mountStates are those of disks: each is mounted, filled and taken away for real.
// backups, state and vault are file systems of their own.
var mountStates = []state{
	{name: "the disk of the backups is unmounted", want: "critical mount", text: ".atobackupd-dir is missing",
		make: func(w *world) {
			w.must(unix.Unmount(w.path("backups"), unix.MNT_DETACH))
			w.failTake()
			left, err := os.ReadDir(w.path("backups"))
			if err != nil || len(left) != 0 {
				w.t.Errorf("something was written onto the bare mount point: %v, %v", left, err)
			}
		},
		end: func(w *world) {
			w.must(unix.Mount(w.path("disk"), w.path("backups"), "", unix.MS_BIND, ""))
			w.take(snapshot.Daily)
		}},
	{name: "the disk of the backups can only be read", want: "critical snapshot", text: "read-only file system",
		make: func(w *world) {
			w.readOnly("backups")
			w.failTake()
		},
		end: func(w *world) { w.must(unix.Unmount(w.path("backups"), unix.MNT_DETACH)); w.take(snapshot.Daily) }},
	{name: "the disk of the state is full", want: "critical history", text: "no space left",
		make: func(w *world) { w.fill("state"); w.unrecorded() },
		end:  func(w *world) { w.must(os.Remove(w.path("state/filler"))); w.unrecorded() }},
	{name: "the disk of the state can only be read", want: "critical history", text: "read-only file system",
		make: func(w *world) { w.readOnly("state"); w.pass(time.Minute) },
		end:  func(w *world) { w.must(unix.Unmount(w.path("state"), unix.MNT_DETACH)); w.unrecorded() }},
	{name: "the history alone can only be read", want: "critical history",
		text: "state/history.db: read-only file system",
		make: func(w *world) { w.readOnly("state/history.db"); w.advises("findmnt -T ") },
		end:  func(w *world) { w.must(unix.Unmount(w.path("state/history.db"), unix.MNT_DETACH)) }},
	{name: "a daemon starts on a history that can only be read", want: "critical history",
		text: "read-only file system",
		make: func(w *world) {
			w.restart(func() { w.readOnly("state/history.db") })
			w.unrecorded()
		},
		end: func(w *world) {
			w.must(unix.Unmount(w.path("state/history.db"), unix.MNT_DETACH))
			_, _ = w.app.Facts(w.t.Context(), time.Now()) // the daemon goes on in it
			w.pass(time.Minute)
		}},
	{name: "the disk of the vault is full", want: "critical offsite:disk", text: "no space left",
		make: func(w *world) {
			w.fill("vault")
			w.change("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x < 20000) " +
				"INSERT INTO t SELECT hex(randomblob(20)) FROM n")
			w.take(snapshot.Daily)
			w.mustFail(w.tryShip())
		},
		end: func(w *world) { w.must(os.Remove(w.path("vault/filler"))); w.ship() }},
	{name: "the disk of the vault is unmounted", want: "critical offsite:disk", text: "is its disk mounted",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.must(unix.Mount("tmpfs", w.path("vault"), "tmpfs", 0, "")) // another disk in its place
			w.mustFail(w.tryShip())
		},
		end: func(w *world) { w.must(unix.Unmount(w.path("vault"), unix.MNT_DETACH)); w.ship() }},
}

// readOnly lays a mount over a directory through which it can only be read, as a
// kernel does that met an error.
func (w *world) readOnly(name string) {
	w.t.Helper()
	w.must(forktest.BindOver(w.path(name)))
	w.must(unix.Mount("", w.path(name), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
}

// fill leaves no byte on the file system of a directory.
func (w *world) fill(name string) {
	w.t.Helper()
	f, err := os.Create(w.path(name + "/filler"))
	w.must(err)
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else {
			w.must(err)
		}
	}
}

// inNamespace is set for the test binary that has mounts of its own.
const inNamespace = "TRUTH_OF_MOUNTS"

// TestTruthOfMounts makes the states of disks in a process with mounts of its own.
func TestTruthOfMounts(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTruthOfMounts$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		out, err := forktest.OwnMounts(cmd).CombinedOutput()
		if err != nil {
			t.Fatalf("%v (%s)\n%s", err, forktest.NeedsNamespaces, out)
		}
		t.Logf("%s", out)
		return
	}
	if err := forktest.PrivateMounts(); err != nil {
		t.Fatal(err)
	}
	for _, s := range mountStates {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			w.ownDisks()
			synctest.Test(t, func(t *testing.T) {
				w.t = t
				w.run(s)
			})
		})
	}
}

// ownDisks puts the backups, the state and the vault on file systems of their own.
func (w *world) ownDisks() {
	w.t.Helper()
	for _, dir := range []string{"disk", "state"} {
		w.must(os.Mkdir(w.path(dir), 0o700))
	}
	w.must(unix.Mount(w.path("disk"), w.path("backups"), "", unix.MS_BIND, ""))
	for _, dir := range []string{"state", "vault"} {
		w.must(unix.Mount("tmpfs", w.path(dir), "tmpfs", 0, "size=8m,mode=0700"))
	}
	w.t.Cleanup(func() {
		for _, dir := range []string{"backups", "state", "vault"} {
			_ = unix.Unmount(w.path(dir), unix.MNT_DETACH) // they end with the process
		}
	})
}
