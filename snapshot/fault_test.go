package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// freshStore gives the installation an empty backup directory.
func (in *installation) freshStore(t testing.TB) {
	t.Helper()
	var err error
	in.store, err = Open(t.TempDir())
	must(t, err)
}

// Whatever call fails, nothing is published, nothing stays in staging, and the
// error says what failed.
func TestTakeFailing(t *testing.T) {
	in := installFull(t)
	calls := 0
	fsxtest.EachFailure(t, func() error {
		calls++
		_, err := in.take(TakeOptions{Full: true})
		return err
	}, func(k int, at string, err error) {
		if err == nil || !strings.Contains(err.Error(), fsxtest.ErrInjected.Error()) {
			t.Errorf("%s: error %v", at, err)
		}
		if stamps := in.published(t); len(stamps) != 0 {
			t.Errorf("%s: published %q", at, stamps)
		}
		if in.staged(t) != "" {
			t.Errorf("%s left\n%s", at, in.staged(t))
		}
	})
	if len(in.published(t)) != 1 || calls < 20 {
		t.Errorf("%d calls, published %q", calls, in.published(t))
	}
}

// The snapshot before a restore bears with a live store that is damaged. A call that
// fails once does not make one of it.
func TestTolerantTakeFailingOnce(t *testing.T) {
	in := installFull(t)
	taken := 0
	fsxtest.EachFailure(t, func() error {
		snap, err := in.take(TakeOptions{Kind: PreRestore, Tolerant: true, Full: true,
			Chroma: chroma.Options{Method: chroma.MethodCold}})
		if err == nil {
			taken++
			if !snap.IsValid() {
				t.Errorf("a sound store was called damaged: %q", snap.Errors)
			}
		}
		return err
	}, func(int, string, error) { in.freshStore(t) })
	if taken < 5 {
		t.Errorf("only %d were taken", taken)
	}
}

// SIGKILL before any call leaves whole snapshots only, and the next Sweep and
// Take put the rest in order.
func TestTakeKilled(t *testing.T) {
	in := installFull(t)
	const atOnce = 8 // processes, each with a backup directory of its own
	for first := 1; ; first += atOnce {
		var running []*exec.Cmd
		var stores []*Store
		for k := first; k < first+atOnce; k++ {
			in.freshStore(t)
			cmd := forktest.Command("take", job{Store: in.store.Dir(), Sources: in.src, Full: true})
			cmd.Env = append(cmd.Env, fsxtest.KillEnv(k))
			must(t, cmd.Start())
			running, stores = append(running, cmd), append(stores, in.store)
		}
		for i, cmd := range running {
			err := cmd.Wait()
			in.store = stores[i]
			if in.afterKill(t, first+i, cmd, err) {
				provetest.Points(t, first+i-1)
				if first < 20 {
					t.Errorf("only %d calls", first+i-1)
				}
				for _, rest := range running[i+1:] {
					_ = rest.Wait()
				}
				return
			}
		}
	}
}

// afterKill checks what a take left that was killed before its k-th call, and
// reports whether it was done before that.
func (in *installation) afterKill(t *testing.T, k int, cmd *exec.Cmd, err error) (done bool) {
	t.Helper()
	stamps := in.publishedOf(t)
	if err == nil {
		if len(stamps) != 1 || in.staged(t) != "" {
			t.Errorf("not killed: published %q, left %s", stamps, in.staged(t))
		}
		return true
	}
	if !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("call %d: %v", k, err)
	}
	if removed, _, err := in.store.Sweep(); err != nil || in.staged(t) != "" ||
		len(stamps) == 0 && k > 1 && len(removed) == 0 {
		t.Errorf("call %d: swept %q, %v", k, removed, err)
	}
	if k%16 == 0 {
		in.mustTake(t, TakeOptions{})
		in.published(t)
	}
	return false
}

// publishedOf is published without the look for sidecars, which a killed copy
// leaves in staging.
func (in *installation) publishedOf(t testing.TB) []Stamp {
	t.Helper()
	stamps, strangers, err := in.store.stamps()
	if err != nil || len(strangers) > 0 {
		t.Fatalf("%v, %q", err, strangers)
	}
	for _, s := range stamps {
		if result := in.validate(t, s); !result.Valid {
			t.Errorf("%s was published and is not valid: %q", s, result.Errors)
		}
	}
	return stamps
}

// A cancelled take says that it was interrupted and leaves nothing, at whatever
// call the cancel comes; past the rename it is done. The many like calls inside
// a copy of Chroma are sampled.
func TestTakeCancelled(t *testing.T) {
	in := installFull(t)
	for k := 1; ; k += 3 {
		in.freshStore(t)
		ctx, cancel := context.WithCancel(context.Background())
		calls, cancelled := 0, ""
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			if calls++; calls == k {
				cancelled = string(op) + " " + path
				cancel()
			}
			return nil
		})
		_, err := in.store.Take(
			ctx,
			in.src,
			TakeOptions{Kind: Daily, Full: true, Chroma: chroma.Options{OptimisticTries: 3}},
		)
		stop()
		cancel()
		published := len(in.published(t))
		switch {
		case cancelled == "":
			provetest.Points(t, k/3)
			if k < 20 || err != nil || published != 1 {
				t.Errorf("by call %d no cancel: %v", k, err)
			}
			return
		case err == nil && published == 1:
			if !strings.Contains(cancelled, "/snapshots/") && !strings.HasPrefix(cancelled, "fsync-dir") {
				t.Errorf("%s: done although cancelled", cancelled)
			}
		case failure.KindOf(err) != failure.Interrupted || published != 0:
			t.Errorf("%s: %v, published %d", cancelled, err, published)
		}
		if in.staged(t) != "" {
			t.Errorf("%s left\n%s", cancelled, in.staged(t))
		}
	}
}

func TestTakeCancelledBeforehand(t *testing.T) {
	in := install(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := in.store.Take(ctx, in.src, TakeOptions{Kind: Daily}); failure.KindOf(err) != failure.Interrupted {
		t.Errorf("got %v", err)
	}
}

// On a full disk the error says so, and the disk is as it was. The sizes make
// each of the writes the one that does not fit.
func TestTakeOnAFullDisk(t *testing.T) {
	in := installFull(t)
	execDB(
		t,
		in.src.DB,
		"INSERT INTO memories(content) SELECT hex(randomblob(100000)) FROM source_documents, source_documents AS b",
	)
	if out, err := forktest.OwnMounts(
		forktest.Command("full disk", job{Store: t.TempDir(), Sources: in.src}),
	).CombinedOutput(); err != nil ||
		!strings.HasPrefix(string(out), "full ") {
		t.Errorf("%v: %s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

func init() { roles["full disk"] = takeOnFullDisks }

// takeOnFullDisks runs in a mount namespace of its own.
func takeOnFullDisks(j job) error {
	if err := forktest.PrivateMounts(); err != nil {
		return err
	}
	full := 0
	for kib := 64; kib < 8<<10; kib += 64 {
		if err := syscall.Mount("tmpfs", j.Store, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
			return err
		}
		store, err := Open(j.Store)
		if err != nil {
			return err
		}
		// The estimate must not save us: min_free is below what is missing.
		_, err = store.Take(
			context.Background(),
			j.Sources,
			TakeOptions{Kind: Daily, Full: true, Chroma: chroma.Options{OptimisticTries: 3}, MinFree: -(1 << 40)},
		)
		if err == nil {
			if full < 5 {
				return fmt.Errorf("it fits into %d KiB, after %d full disks", kib, full)
			}
			fmt.Printf("full %d times, fits into %d KiB\n", full, kib)
			return nil
		}
		full++
		if failure.KindOf(err) != failure.NoSpace || !contains(err, "free some space") {
			return fmt.Errorf("%d KiB: kind %d: %w", kib, failure.KindOf(err), err)
		}
		for _, dir := range []string{store.snapshots(), store.staging(), store.quarantine()} {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				return fmt.Errorf("%d KiB: %s holds %v, %w", kib, dir, entries, err)
			}
		}
		if err := syscall.Unmount(j.Store, 0); err != nil {
			return err
		}
	}
	return errors.New("it never fits")
}

// A snapshot is removed whole or not at all, wherever the removal ends.
func TestDeleteFailing(t *testing.T) {
	in := install(t)
	taken := in.mustTake(t, TakeOptions{})
	fsxtest.EachFailure(t, func() error {
		if !exists(taken.Path) {
			taken = in.mustTakeUnobserved(t)
		}
		return in.store.Delete(taken.Stamp)
	}, func(k int, at string, err error) {
		if !errors.Is(err, fsxtest.ErrInjected) {
			t.Errorf("%s: %v", at, err)
		}
		if stamps := in.publishedOf(t); len(stamps) > 1 {
			t.Errorf("%s: %q", at, stamps)
		}
		if exists(taken.Path) && in.staged(t) != "" {
			t.Errorf("%s left\n%s", at, in.staged(t))
		}
		_, _, err = in.store.Sweep()
		must(t, err)
	})
	if exists(taken.Path) || in.staged(t) != "" {
		t.Error("it is not gone")
	}
}

// mustTakeUnobserved takes in another process, so that no failure is injected.
func (in *installation) mustTakeUnobserved(t testing.TB) Snapshot {
	t.Helper()
	if out, err := forktest.Command("take", job{Store: in.store.Dir(), Sources: in.src}).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	stamps := in.publishedOf(t)
	snap, err := in.store.Get(stamps[len(stamps)-1])
	must(t, err)
	return snap
}

// killEach runs a role that changes the snapshot stamp, killed before its first
// call, its second, and so on until it is done, and has each end checked.
func (in *installation) killEach(t *testing.T, role string, stamp Stamp, check func(k int)) {
	t.Helper()
	for k := 1; ; k++ {
		cmd := forktest.Command(role, job{Store: in.store.Dir(), Stamp: stamp})
		cmd.Env = append(cmd.Env, fsxtest.KillEnv(k))
		out, err := cmd.CombinedOutput()
		if err != nil && !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("%v: %s", err, out)
		}
		check(k)
		_, _, sweepErr := in.store.Sweep()
		must(t, sweepErr)
		if err == nil || !exists(in.store.Path(stamp)) {
			provetest.Points(t, k)
			return
		}
	}
}

func TestDeleteKilled(t *testing.T) {
	in := install(t)
	taken := in.mustTake(t, TakeOptions{})
	kills := 0
	in.killEach(t, "delete", taken.Stamp, func(k int) {
		in.publishedOf(t)
		kills = k
	})
	if kills < 3 || exists(taken.Path) {
		t.Errorf("%d kills", kills)
	}
}

// A pin that is killed leaves the snapshot valid, with the mark or without.
func TestPinKilled(t *testing.T) {
	in := install(t)
	taken := in.mustTake(t, TakeOptions{})
	in.killEach(t, "pin", taken.Stamp, func(k int) {
		if result := in.validate(t, taken.Stamp); !result.Valid {
			t.Errorf("killed at call %d: %q", k, result.Errors)
		}
	})
	snap, err := in.store.Get(taken.Stamp)
	must(t, err)
	if !snap.Pinned {
		t.Error("not pinned in the end")
	}
	must(t, in.store.Pin(taken.Stamp, true)) // already
	must(t, in.store.Pin(taken.Stamp, false))
	if snap, err = in.store.Get(taken.Stamp); err != nil || snap.Pinned {
		t.Errorf("still pinned: %v", err)
	}
	in.published(t)
	wantError(t, in.store.Pin("20200101T000000Z", true), failure.NotFound, "no such snapshot")
	must(t, os.RemoveAll(filepath.Join(in.store.Dir(), "staging")))
	wantError(t, in.store.Pin(taken.Stamp, true), failure.Other, "pin", "must be able to write")
}
