package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// A foreign uid takes root, or a user namespace with more than one id; CI runs
// as root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test gives files to uid 1000: run it as root")
	}
}

// TestKeepsOwnersModesAndAttributes restores, as root, over files of uid 1000.
func TestKeepsOwnersModesAndAttributes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newScene(t)
	live := s.live()
	err := filepath.WalkDir(filepath.Join(s.base, "live"), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 1000, 1001))
	})
	err = errors.Join(
		err,
		os.Chmod(live.DB, 0o604),
		os.Chmod(live.Registry, 0o400),
		os.Chmod(filepath.Join(live.Chroma, "seg"), os.ModeSetgid|0o751),
		unix.Setxattr(live.DB, "user.origin", []byte("kept"), 0),
		os.Chown(filepath.Join(live.Chroma, "both.bin"), 1002, 1003),
	)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(context.Background(), s.mustRequest(t))
	if err != nil || plan.Items[0].UID != 1000 || plan.Items[0].GID != 1001 || plan.Items[0].Mode != "0604" {
		t.Errorf("plan: %+v, %v", plan.Items, err)
	}
	if _, err := Run(context.Background(), s.mustRequest(t)); err != nil {
		t.Fatal(err)
	}
	got := s.mustPrint(t)
	for path, want := range map[string]string{
		"db/atocore.db":                "-rw----r-- 1000:1001",
		"config/project-registry.json": "-r-------- 1000:1001",
		"chroma":                       "drwxr-x--- 1000:1001",
		"chroma/seg":                   "drwxr-x--x 1000:1001", // never setgid
		"chroma/both.bin":              "-rw-r----- 1002:1003", // what stood there
		"chroma/only-new.bin":          "-rw-r----- 1000:1001", // new: the directory's owner
		"chroma/seg/deep/x":            "-rw-r----- 1000:1001",
	} {
		if !strings.Contains("\n"+got, "\n"+path+" "+want) {
			t.Errorf("%s is not %s", path, want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(live.DB, "user.origin", value); err != nil || string(value[:n]) != "kept" {
		t.Errorf("the extended attribute: %q, %v", value[:max(n, 0)], err)
	}
}

// TestEmptyDiskGetsTheOwnersOfTheSnapshot: uid 1000 must be able to start.
func TestEmptyDiskGetsTheOwnersOfTheSnapshot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newScene(t)
	err := filepath.WalkDir(filepath.Join(s.base, "live"), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 1000, 1001))
	})
	if err != nil {
		t.Fatal(err)
	}
	r := s.mustRequest(t)
	r.Stamp = s.take(t)
	want := s.mustPrint(t)
	if err := os.RemoveAll(filepath.Join(s.base, "live")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.base, "live"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(s.mustPrint(t), "\n") {
		// The database lost its -wal in the snapshot, so its bytes are others.
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] == "." {
			continue
		}
		if !strings.Contains(want, strings.Join(fields[:3], " ")) {
			t.Errorf("%s has other owners or modes than what was saved", line)
		}
	}
}

// TestRefusesToLoseOwners runs without the right to give files away.
func TestRefusesToLoseOwners(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newScene(t)
	if err := os.Chown(s.live().DB, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	c := again("unprivileged", childInput{s.base, s.stamp})
	c.Stderr = nil
	out, err := c.Output()
	if err != nil || !strings.Contains(string(out), "belongs to uid 1000") ||
		!strings.Contains(string(out), "run it with sudo") {
		t.Errorf("%v: %s", err, out)
	}
}

// unprivilegedMain gives up CAP_CHOWN for good and tries.
func unprivilegedMain(in childInput) error {
	runtime.LockOSThread() // capabilities belong to a thread
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_CHOWN
	data[0].Permitted &^= 1 << unix.CAP_CHOWN
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	r, err := in.scene().request()
	if err != nil {
		return err
	}
	_, err = Run(context.Background(), r)
	fmt.Println(err)
	if failure.KindOf(err) != failure.Refused {
		return fmt.Errorf("not refused: %v", err)
	}
	return nil
}

// TestBrokenStoreComesBackExactly: a live database that SQLite cannot read is
// saved raw with its sidecars, and the roll-back brings those bytes back.
func TestBrokenStoreComesBackExactly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	live := s.live()
	if err := os.WriteFile(live.DB, []byte("this is no database"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(live.DB+"-journal", []byte("nor is this a journal"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(live.Registry, []byte("{broken"), 0o640); err != nil {
		t.Fatal(err)
	}
	old := s.mustPrint(t)
	res, err := Run(context.Background(), s.mustRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if contents(t, live.DB) != "new" || !strings.Contains(strings.Join(res.Warnings, ""), "--allow-invalid") {
		t.Errorf("%+v", res)
	}
	back := s.mustRequest(t)
	back.Stamp, back.NoPreSnapshot = snapshot.Stamp(res.PreRestoreSnapshot), true
	if _, err := Run(context.Background(), back); failure.KindOf(err) != failure.Invalid {
		t.Errorf("it is restored without being asked twice: %v", err)
	}
	back.AllowInvalid = true
	res, err = Run(context.Background(), back)
	if err != nil {
		t.Fatal(err)
	}
	if res.RestoredIntegrityOK || !res.DBRestored {
		t.Errorf("%+v", res)
	}
	if now := s.mustPrint(t); now != old {
		t.Errorf("not the exact bytes:\n%s\n%s", now, old)
	}
}

// TestSnapshotOfAtoCoresOwn has no manifest, and names its copies after paths
// in a container.
func TestSnapshotOfAtoCoresOwn(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	r := s.mustRequest(t)
	if err := os.Remove(filepath.Join(r.dir(), snapshot.ManifestFile)); err != nil {
		t.Fatal(err)
	}
	writeOver(
		t,
		filepath.Join(r.dir(), snapshot.MetadataFile),
		`{"created_at": "2026-04-07T06:00:00Z", "backup_root": "/app/backups/snapshots/x",
		"db_snapshot_path": "/app/backups/snapshots/x/db/atocore.db", "registry_snapshot_path": "/app/backups/snapshots/x/config/project-registry.json",
		"include_chroma": true, "chroma_snapshot_included": true}`,
	)
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !res.DBRestored || !res.RegistryRestored || !res.ChromaRestored || contents(t, s.live().DB) != "new" {
		t.Errorf("%+v", res)
	}
	assertNoTraces(t, s)
}

// TestManyFiles restores a Chroma directory of 2,000 files over another one.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	restoreMany(t, 2_000)
}

func restoreMany(t *testing.T, n int) {
	s := newScene(t)
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("%d/%d", i%10, i)] = fmt.Sprint(i)
		if i%10 == 0 { // a tenth of them side by side at the top
			files[fmt.Sprintf("top-%d", i)] = "t"
		}
	}
	if err := writeFiles(s.live().Chroma, files); err != nil {
		t.Fatal(err)
	}
	want, err := printOf(s.live().Chroma)
	if err != nil {
		t.Fatal(err)
	}
	r := s.mustRequest(t)
	r.Stamp = s.take(t)
	for name := range files {
		if err := os.WriteFile(filepath.Join(s.live().Chroma, name), []byte("changed"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	r.NoPreSnapshot = true
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files restored in %d ms", len(files), res.DurationMS)
	if got, err := printOf(s.live().Chroma); err != nil || got != want {
		t.Errorf("the directory is not what was saved (%v)", err)
	}
	assertNoTraces(t, s)
}
