package restore

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/snapshot"
)

// odd are what may stand where a file was looked for.
var odd = map[string]func(path string) error{
	"link":   func(path string) error { return os.Symlink("/nonexistent", path) },
	"FIFO":   func(path string) error { return unix.Mkfifo(path, 0o600) },
	"socket": listenOnce,
	"directory": func(path string) error {
		return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"/mine", []byte("mine"), 0o600))
	},
}

// listenOnce leaves a socket that nobody listens on. Its name may be longer than an
// address can be.
func listenOnce(path string) error {
	short := filepath.Join("/dev/shm", filepath.Base(path)+".socket")
	_ = os.Remove(short)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return errors.Join(os.Rename(short, path), l.Close())
}

// What stands in the place of a file of SQLite's and is none cannot be saved. It
// keeps no restore from being finished, in one run; what was live is saved all the
// same, and the thing itself is moved aside and named.
func TestOddThingsBesideADatabase(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, at := range []string{"db/atocore.db", "chroma/chroma.sqlite3"} {
		for _, suffix := range sidecars {
			for kind, lay := range odd {
				for _, anchor := range []bool{true, false} {
					name := at + suffix + ", " + kind
					if !anchor {
						name += ", no pre-restore snapshot"
					}
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						restoreBeside(t, at, suffix, lay, anchor)
					})
				}
			}
		}
	}
}

func restoreBeside(t *testing.T, at, suffix string, lay func(string) error, anchor bool) {
	s := newScene(t)
	db := filepath.Join(s.base, "live", at)
	if strings.HasPrefix(at, "chroma") {
		if err := makeDB(db, "old", false); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(db + suffix) // where the scene has one, its commits are not asked for
	if err := errors.Join(lay(db+suffix), os.Lchown(db+suffix, stranger, stranger),
		os.Chown(filepath.Dir(db), stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	r := s.mustRequest(t)
	r.NoPreSnapshot = !anchor
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, s.live().DB); got != "new" {
		t.Errorf("the database says %q", got)
	}
	if exists(db + suffix) {
		t.Errorf("%s stands beside the restored database", db+suffix)
	}
	if j, err := pendingIn(s.backups()); j != nil || err != nil {
		t.Errorf("a journal stands: %v, %v", j, err)
	}
	if !anchor {
		return
	}
	saved := filepath.Join(r.Store.Path(snapshot.Stamp(res.PreRestoreSnapshot)), at)
	if got := contents(t, saved); !strings.HasPrefix(got, "old") {
		t.Errorf("the pre-restore snapshot says %q", got)
	}
	if exists(saved + suffix + "/mine") {
		return // a directory in Chroma's is saved as one
	}
	assertKept(t, db+suffix, r.Stamp, res)
}

// assertKept fails unless what stood at a live path was moved aside, and named.
func assertKept(t *testing.T, path string, stamp snapshot.Stamp, res Result) {
	t.Helper()
	kept := filepath.Join(keptDir(filepath.Dir(path), stamp), filepath.Base(path))
	said := strings.Join(res.Warnings, "\n")
	if !exists(kept) || !strings.Contains(said, path+" could not be saved") ||
		!strings.Contains(said, filepath.Dir(kept)) {
		t.Errorf("%s was not kept and named: %s", kept, said)
	}
}

// A registry that is larger than is read cannot be saved either.
func TestHugeRegistryBeforeARestore(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := newScene(t)
	if err := os.Truncate(s.live().Registry, 6<<30); err != nil {
		t.Fatal(err)
	}
	r := s.mustRequest(t)
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	assertKept(t, s.live().Registry, r.Stamp, res)
}
