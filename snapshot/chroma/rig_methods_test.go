//go:build rig

package chroma

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// These tests need what those of rig_test.go need, and root for loop mounts.

// mountBtrfs returns a fresh btrfs.
func mountBtrfs(t *testing.T) string {
	t.Helper()
	shared := os.Getenv("ATOBACKUPD_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	shared, err := filepath.Abs(shared)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "mount")
	run(t, "", filepath.Join(shared, "rig", "fs-up.sh"), "btrfs", "2G", dir)
	t.Cleanup(func() { run(t, "", filepath.Join(shared, "rig", "fs-down.sh"), dir) })
	return dir
}

// copiesMany makes copies at the moment of a persist and judges each by Chroma.
func copiesMany(t *testing.T, name string, w *writer, into string, copy func(dst string) (Copied, error)) {
	t.Helper()
	broken, n := 0, copiesOfEachKind(t)
	var held time.Duration
	for i := range n {
		dst := filepath.Join(into, fmt.Sprintf("%s %d", name, i))
		w.resume()
		w.awaitPersist(t)
		t0 := time.Now()
		c, err := copy(dst)
		t1 := time.Now()
		w.pause()
		if err == nil {
			err = w.judged(dst, t0, t1)
		}
		if err == nil && (c.Consistency != Consistent || c.Method != name) {
			err = fmt.Errorf("%s by %s", c.Consistency, c.Method)
		}
		if err != nil {
			broken++
			t.Errorf("%s: copy %d: %v", name, i, err)
		}
		held = max(held, c.Locked)
		if err := os.RemoveAll(dst); err != nil {
			t.Fatal(err)
		}
	}
	w.resume()
	t.Logf("%s: %d of %d copies broken; writers held for %v at most", name, broken, n, held.Round(time.Millisecond))
}

func TestRigFreeze(t *testing.T) {
	w := startWriter(t)
	group := strconv.Itoa(-w.cmd.Process.Pid)
	f := Freeze{
		Command: []string{"kill", "-STOP", "--", group},
		Thaw:    []string{"kill", "-CONT", "--", group},
		Marker:  filepath.Join(t.TempDir(), "frozen.json"),
	}
	copiesMany(
		t,
		"freeze",
		w,
		t.TempDir(),
		func(dst string) (Copied, error) { return CopyFrozen(t.Context(), dirAt(w.dir), dst, f, Options{}) },
	)
}

func TestRigBtrfs(t *testing.T) {
	mount := mountBtrfs(t)
	run(t, mount, "btrfs", "subvolume", "create", "data")
	w := startWriterIn(t, filepath.Join(mount, "data"))
	live := dirAt(w.dir)
	t.Cleanup(func() { live.Close() }) // before it is unmounted
	scratch, elsewhere := filepath.Join(mount, "staging"), t.TempDir()
	if err := os.Mkdir(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	copiesMany(t, "btrfs", w, mount, func(dst string) (Copied, error) {
		return CopyBtrfs(t.Context(), live, dst, scratch, Options{Share: true})
	})
	// Backups on another file system: the snapshot lies beside the subvolume.
	copiesMany(
		t,
		"btrfs",
		w,
		elsewhere,
		func(dst string) (Copied, error) {
			return CopyBtrfs(t.Context(), live, dst, elsewhere, Options{})
		},
	)
	if left, _ := filepath.Glob(filepath.Join(mount, "*", btrfsPrefix+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRigCold(t *testing.T) {
	for i := range copiesOfEachKind(t) {
		w := startWriter(t)
		w.awaitPersist(t)
		if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := w.cmd.Wait(); err != nil {
			t.Errorf("the writer ended with %v", err)
		}
		w.cmd = exec.Command("true") // for the clean-up
		if err := w.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		dst := filepath.Join(t.TempDir(), "copy")
		t0 := time.Now()
		c, err := CopyCold(t.Context(), dirAt(w.dir), dst, Options{})
		if err == nil {
			err = w.judged(dst, t0, time.Now())
		}
		if err == nil && c.Consistency != Consistent {
			err = errors.New("not consistent")
		}
		if err != nil {
			t.Errorf("cold: copy %d: %v", i, err)
		}
	}
}

// TestRigBtrfsKilled kills a copy at each of its steps; the next start finds
// and removes what it left.
func TestRigBtrfsKilled(t *testing.T) {
	mount := mountBtrfs(t)
	run(t, mount, "btrfs", "subvolume", "create", "data")
	src, scratch := filepath.Join(mount, "data", "chroma"), filepath.Join(mount, "staging")
	run(t, "", "cp", "-a", unpack(t, "whole"), src)
	if err := os.Mkdir(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	left := 0
	for k := 1; ; k++ {
		dst := filepath.Join(mount, "copy")
		cmd := helper("btrfs", src, dst, scratch)
		cmd.Env = append(cmd.Env, fsxtest.KillEnv(k))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled()
		if err != nil && !killed {
			t.Fatalf("step %d: %v: %s", k, err, out)
		}
		removed, err := SweepBtrfs(src, scratch)
		if err != nil {
			t.Fatalf("step %d: %v", k, err)
		}
		left += len(removed)
		if list := subvolumes(t, mount); len(list) != 1 {
			t.Fatalf("step %d: subvolumes %q", k, list)
		}
		if err := os.RemoveAll(dst); err != nil {
			t.Fatal(err)
		}
		if !killed {
			if len(removed) > 0 {
				t.Errorf("a copy that ended well left %v", removed)
			}
			t.Logf("killed at %d steps, %d subvolumes were left and removed", k-1, left)
			break
		}
	}
	if left == 0 {
		t.Error("no kill left a subvolume: the test proves nothing")
	}
}

// TestRigBtrfsUnprivileged copies as the owner of the subvolume, who is not root.
func TestRigBtrfsUnprivileged(t *testing.T) {
	mount := mountBtrfs(t)
	run(t, mount, "btrfs", "subvolume", "create", "data")
	src, scratch, into := filepath.Join(
		mount,
		"data",
		"chroma",
	), filepath.Join(
		mount,
		"staging",
	), filepath.Join(
		mount,
		"into",
	)
	run(t, "", "cp", "-a", unpack(t, "whole"), src)
	run(t, "", "mkdir", scratch, into)
	cmd := helper("btrfs", src, filepath.Join(into, "copy"), scratch)
	unprivileged(t, cmd, filepath.Join(mount, "data"))
	if out, err := cmd.CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "only root and its owner") && !strings.Contains(string(out), "permission") {
		t.Errorf("a stranger: %v: %s", err, out)
	}
	run(t, "", "chown", "-R", "65534:65534", filepath.Join(mount, "data"), scratch, into)
	cmd = helper("btrfs", src, filepath.Join(into, "copy"), scratch)
	unprivileged(t, cmd, filepath.Join(mount, "data"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the owner: %v: %s", err, out)
	}
	if list := subvolumes(t, mount); len(list) != 1 {
		t.Errorf("subvolumes %q", list)
	}
}

func subvolumes(t *testing.T, mount string) []string {
	t.Helper()
	out, err := exec.Command("btrfs", "subvolume", "list", mount).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestRigAPI copies as AtoCore does under its ingestion lock: nobody writes, the
// server is up, and the directory is copied with no care at all.
func TestRigAPI(t *testing.T) {
	w := startWriter(t)
	copiesMany(t, "api", w, t.TempDir(), func(dst string) (Copied, error) {
		w.pause()                          // what is under way is answered before the lock is had
		time.Sleep(500 * time.Millisecond) // and nothing tells here when that is
		run(t, "", "cp", "-a", w.dir, dst)
		report, err := Validate(t.Context(), dst)
		return Copied{Method: "api", Consistency: report.Consistency}, errors.Join(err, report.Err(dst))
	})
}
