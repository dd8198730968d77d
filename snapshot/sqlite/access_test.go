package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestChooseAccess(t *testing.T) {
	none, empty, full := fileState{}, fileState{exists: true}, fileState{exists: true, size: 4152}
	for _, test := range []struct {
		name     string
		foreign  bool
		wal, shm fileState
		want     access
	}{
		{"own files are welcome", false, none, none, accessNormal},
		{"own, crashed, -shm gone", false, full, none, accessNormal},
		{"foreign, closed cleanly", true, none, none, accessQuiescent},
		{"foreign, live", true, full, full, accessNormal},
		{"foreign, live, nothing written yet", true, empty, full, accessNormal},
		{"foreign, empty -wal and nobody there", true, empty, none, accessQuiescent},
		{"foreign, only a -shm", true, none, full, accessQuiescent},
		{"foreign, crashed, -shm gone", true, full, none, accessRefused},
	} {
		if got := chooseAccess(test.foreign, test.wal, test.shm); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

const (
	appUID   = 1000  // whose the database is
	otherUID = 65534 // somebody else
)

// openDir makes a directory that every user can reach, with the given mode.
func openDir(t *testing.T) string {
	t.Helper()
	top, err := os.MkdirTemp("", "sqlite-access")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(filepath.Join(top, "data"), 0o755)
		os.RemoveAll(top)
	})
	for dir, mode := range map[string]os.FileMode{
		top:                        0o755,
		filepath.Join(top, "data"): 0o777,
		filepath.Join(top, "out"):  0o777,
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

// Who can copy a WAL database, by what means, and whose files stay beside it.
// Rows that need another user run only as root; the others always.
func TestAccess(t *testing.T) {
	root := os.Geteuid() == 0
	user := func(uid uint32) []childOption {
		if root {
			return []childOption{asUser(uid)}
		}
		return nil
	}
	crash := func(p *child) { p.Kill() }
	live := func(*child) {}
	crashWithoutShm := func(p *child) {
		p.Kill()
		if err := os.Remove(p.Cmd.Env[len(p.Cmd.Env)-1][len("SHM="):]); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name      string
		needsRoot bool
		options   []childOption
		dropChown bool
		dir       os.FileMode // of the data directory, when the copy is made
		end       func(*child)
		answer    string // how the copier's words begin
		sidecars  bool   // whether -wal and -shm are there afterwards
	}{
		{"owner, live", false, user(appUID), false, 0o755, live, "wal-", true},
		{"owner, crashed", false, user(appUID), false, 0o755, crash, "wal-", true},
		{"owner, closed", false, user(appUID), false, 0o755, closeChild, "wal-", true},
		{"owner, closed, directory read-only", false, user(appUID), false, 0o555, closeChild, "immutable", false},
		{"owner, live, directory read-only", false, user(appUID), false, 0o555, live, "wal-", true},
		{"other, live", true, user(otherUID), false, 0o755, live, "wal-", true},
		{"other, crashed", true, user(otherUID), false, 0o755, crash, "wal-", true},
		{"other, closed, directory not writable", true, user(otherUID), false, 0o755, closeChild, "immutable", false},
		{"other, closed, directory writable", true, user(otherUID), false, 0o777, closeChild, "immutable", false},
		{"other, crashed and -shm gone, directory writable", true, user(otherUID), false, 0o777, crashWithoutShm,
			"error copy database: {path}: there is a -wal but no -shm, and one made by uid 65534 would keep the " +
				"application (uid 1000) from writing: run as uid 1000 or as root with CAP_CHOWN", false},
		{"root without CAP_CHOWN, live", true, nil, true, 0o755, live, "wal-", true},
		{"root without CAP_CHOWN, closed", true, nil, true, 0o755, closeChild, "immutable", false},
		{"root, closed", true, nil, false, 0o755, closeChild, "wal-", true},
	} {
		if test.needsRoot && !root {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			top := openDir(t)
			path, dst := filepath.Join(top, "data", "live.db"), filepath.Join(top, "out", "copy.db")
			if root {
				if err := os.Chown(filepath.Join(top, "data"), appUID, appUID); err != nil {
					t.Fatal(err)
				}
			}
			app := start(
				t,
				"puppet",
				job{Path: path, Journal: "wal"},
				append(user(appUID), withEnv("SHM="+path+shmSuffix))...)
			app.do(t, "fill 50")
			test.end(app)
			if err := os.Chmod(filepath.Join(top, "data"), test.dir); err != nil {
				t.Fatal(err)
			}
			c := start(t, "copier", job{Path: path, Dst: dst, DropChown: test.dropChown}, test.options...)
			answer := c.Line()
			if !strings.HasPrefix(answer, strings.ReplaceAll(test.answer, "{path}", path)) {
				t.Fatalf("%s\nwant %s", answer, test.answer)
			}
			if !strings.HasPrefix(answer, "error") {
				if last := sound(t, dst); last != 50 {
					t.Errorf("the copy ends at %d", last)
				}
			}
			checkSidecars(t, path, test.sidecars)
		})
	}
}

// checkSidecars looks at what stands beside the source: the owner's or nothing.
func checkSidecars(t *testing.T, path string, want bool) {
	t.Helper()
	owner := func(path string) uint32 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	shm, err := stateOf(path + shmSuffix)
	if err != nil {
		t.Fatal(err)
	}
	if shm.exists != want {
		t.Errorf("-shm there: %t, want %t", shm.exists, want)
	}
	for _, suffix := range []string{walSuffix, shmSuffix} {
		if state, err := stateOf(path + suffix); err != nil || state.exists && owner(path+suffix) != owner(path) {
			t.Errorf("%s belongs to %d, not to the application: %v", suffix, state.owner, err)
		}
	}
}

// A database that moves while it is thought to be still is copied anew.
func TestStillCopyStartsOver(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "wal"}
	filled(t, j, 50).Close()
	src, err := liveAt(j.Path).look()
	if err != nil {
		t.Fatal(err)
	}
	for name, disturb := range map[string]func(){
		"opened":    func() { filled(t, j, 1) },
		"committed": func() { filled(t, j, 1).Close() },
		"touched":   func() { os.Chtimes(j.Path, src.info.MTime, src.info.MTime.Add(1)) },
	} {
		done := false
		c := copier{clone: cloneThen(func() {
			if !done {
				done = true
				disturb()
			}
		})}
		dst := filepath.Join(dir, "copy.db")
		if _, err := c.copyQuiescent(context.Background(), src, dst, ""); err != errMoved {
			t.Errorf("%s: %v", name, err)
		}
		if state, err := stateOf(dst); err != nil || state.exists {
			t.Errorf("%s: a copy was left: %v", name, err)
		}
		for _, suffix := range sidecarSuffixes { // the application of "opened" goes on
			_ = os.Remove(j.Path + suffix)
		}
	}
}
