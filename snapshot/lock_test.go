package snapshot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

func TestHoldKeepsPruneAway(t *testing.T) {
	in := install(t)
	snap := in.mustTake(t, TakeOptions{})
	reader := start(t, "hold", job{Store: in.store.Dir(), Stamp: snap.Stamp})
	if line := reader.Line(); line != "holding" {
		t.Fatal(line)
	}
	wantError(t, in.store.Delete(snap.Stamp), failure.Locked, "prune: "+string(snap.Stamp)+": it is being read")
	second, err := in.store.LockShared(snap.Stamp)
	must(t, err)
	second.Unlock()
	in.published(t)
	reader.Kill()
	must(t, in.store.Delete(snap.Stamp))
	wantError(t, in.store.Delete(snap.Stamp), failure.NotFound, "no such snapshot")
	_, err = in.store.LockShared(snap.Stamp)
	wantError(t, err, failure.NotFound, "no such snapshot", "atobackupd list")
}

// Somebody who only asks whether a snapshot is in use, by locking it for a
// moment, does not turn a reader away; who removes it does.
func TestHoldSitsOutAQuestion(t *testing.T) {
	in := install(t)
	snap := in.mustTake(t, TakeOptions{})
	asking, ok, err := in.store.lockPublished(snap.Stamp, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	time.AfterFunc(10*holdPoll, asking.Unlock)
	lock, err := in.store.LockShared(snap.Stamp)
	must(t, err)
	lock.Unlock()

	asking, ok, err = in.store.lockPublished(snap.Stamp, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer asking.Unlock()
	_, err = in.store.LockShared(snap.Stamp)
	wantError(t, err, failure.Locked, "it is being pruned")
}

func TestMainLockNamesItsHolderAndDiesWithIt(t *testing.T) {
	in := install(t)
	holder := start(t, "lock", job{Store: in.store.Dir()})
	if line := holder.Line(); line != "locked" {
		t.Fatal(line)
	}
	_, err := in.store.Lock(t.Context(), "pruning", 0, nil)
	wantError(t, err, failure.Locked, fmt.Sprintf("held by pid %d (taking a daily snapshot)", holder.Process.Pid))
	told := ""
	lock, err := in.store.Lock(t.Context(), "pruning", time.Minute, func(h string) { told = h; holder.Kill() })
	must(t, err)
	lock.Unlock()
	if told == "" {
		t.Error("the waiting was not told")
	}
}

// What is in snapshots/ without being one is named and left alone.
func TestStrangersInSnapshots(t *testing.T) {
	in := install(t)
	snap := in.mustTake(t, TakeOptions{})
	const link, file = Stamp("20200101T000000Z"), Stamp("20200102T000000Z")
	must(t, os.Symlink(snap.Path, in.store.Path(link)))
	must(t, os.WriteFile(in.store.Path(file), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(in.store.snapshots(), "20261301T000000Z"), 0o700))
	list, warnings, err := in.store.List(time.Now())
	if err != nil || len(list) != 1 || len(warnings) != 3 {
		t.Errorf("%d snapshots, warnings %q, %v", len(list), warnings, err)
	}
	for _, stamp := range []Stamp{link, file} {
		_, err := in.store.Get(stamp)
		wantError(t, err, failure.NotFound, "no such snapshot")
		_, err = in.store.LockShared(stamp)
		wantError(t, err, failure.NotFound)
		wantError(t, in.store.Delete(stamp), failure.NotFound)
		if result := in.validate(t, stamp); result.Exists || codes(result.Errors) != "snapshot_missing" {
			t.Errorf("%+v", result)
		}
	}
	if info, err := os.Lstat(in.store.Path(link)); err != nil || info.Mode()&fs.ModeSymlink == 0 || !exists(snap.Path) {
		t.Error("the link or its target is gone")
	}
}

func TestOpenExistingMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	store, err := OpenExisting(dir)
	must(t, err)
	list, warnings, err := store.List(time.Now())
	if err != nil || len(list) != 0 || len(warnings) != 1 || exists(dir) {
		t.Errorf("%v, %q, %v", list, warnings, err)
	}
	for _, sweep := range []func() ([]string, error){
		func() ([]string, error) { removed, _, err := store.Sweep(); return removed, err },
		func() ([]string, error) { return store.SweepQuarantine(time.Now(), 0) },
	} {
		if removed, err := sweep(); err != nil || len(removed) != 0 {
			t.Errorf("%q, %v", removed, err)
		}
	}
	must(t, os.WriteFile(dir, nil, 0o600))
	_, _, err = store.List(time.Now())
	wantError(t, err, failure.Config, "not a directory", "make the directory")
	_, err = Open(dir)
	wantError(t, err, failure.Config, "not a directory", "make the directory")
}

func TestStamps(t *testing.T) {
	for _, bad := range []string{
		"",
		"latest",
		"20260407T060000",
		"20260407t060000z",
		"20260230T000000Z",
		"20260407T250000Z",
		"../20260407T060000Z",
		"20260407T060000Z\n",
		"20260407T060000.5Z",
	} {
		_, err := ParseStamp(bad)
		wantError(t, err, failure.Usage, "a stamp looks like 20260407T060000Z")
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	at := time.Date(2026, 7, 1, 2, 30, 0, 999, berlin)
	if s := StampOf(at); s != "20260701T003000Z" || !s.Time().Equal(at.Truncate(time.Second)) {
		t.Errorf("%s is %s", s, s.Time())
	}
	if !Stamp("x").Time().IsZero() {
		t.Error("no stamp has a time")
	}
	if k, err := ParseKind("weekly"); err != nil || k != Weekly || !Adopted.HoldsSlots() || PreRestore.HoldsSlots() {
		t.Error(k, err)
	}
	for _, bad := range []string{"", "pre-restore", "adopted", "Daily"} {
		_, err := ParseKind(bad)
		wantError(t, err, failure.Usage, "use daily, weekly, monthly or manual")
	}
}

// Lock files lie where AtoCore's group cannot open them, belong to whom the
// directory above belongs to, and go with their snapshots.
func TestLockFilesArePrivate(t *testing.T) {
	in := install(t)
	state := filepath.Join(t.TempDir(), "state")
	must(t, os.Mkdir(state, 0o700))
	uid := os.Geteuid()
	if uid == 0 {
		uid = stranger
		must(t, os.Chown(state, uid, uid))
	}
	in.store.KeepLocksIn(filepath.Join(state, "locks"))
	snap := in.mustTake(t, TakeOptions{})
	lock, err := in.store.LockShared(snap.Stamp)
	must(t, err)
	if !in.store.InUse(snap.Stamp) {
		t.Error("it is not in use")
	}
	for path, mode := range map[string]fs.FileMode{"locks": 0o700, "locks/" + lockName(snap.Stamp): 0o600} {
		info, err := os.Stat(filepath.Join(state, path))
		must(t, err)
		if info.Mode().Perm() != mode || int(info.Sys().(*syscall.Stat_t).Uid) != uid {
			t.Errorf("%s: %v of %+v", path, info.Mode(), info.Sys())
		}
	}
	lock.Unlock()
	if in.store.InUse(snap.Stamp) {
		t.Error("it is in use still")
	}
	must(t, in.store.Delete(snap.Stamp))
	if left, _ := os.ReadDir(filepath.Join(state, "locks")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
