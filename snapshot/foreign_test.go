package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// giveAway makes a snapshot the application's.
func giveAway(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, stranger, stranger))
	})
	must(t, err)
}

// foreign makes a full snapshot of the application's own, with a manifest in it
// that claims much.
func foreign(t testing.TB, in *installation) Snapshot {
	t.Helper()
	snap := in.mustTake(t, TakeOptions{Kind: Daily, Full: true})
	m := snap.Manifest
	m.Pinned = true
	data, err := json.Marshal(m)
	must(t, errors.Join(err, os.WriteFile(filepath.Join(snap.Path, ManifestFile), data, 0o600)))
	giveAway(t, snap.Path)
	return snap
}

func (in *installation) adopt(stamp Stamp) (Snapshot, error) {
	return in.store.AdoptForeign(context.Background(), stamp,
		AdoptOptions{Host: "dalidou", ToolVersion: "1", Sources: in.src})
}

// A directory of somebody else's among the snapshots counts for nothing, whatever a
// manifest in it claims. What it holds is copied into one of ours, which does; the
// original stays as it was.
func TestForeignSnapshotIsAdoptedByCopy(t *testing.T) {
	in := installFull(t)
	snap := foreign(t, in)
	seen, err := in.store.Get(snap.Stamp)
	must(t, err)
	if seen.Manifest != nil || seen.Kind != Adopted || seen.Pinned || seen.Valid != nil || !seen.Foreign {
		t.Fatalf("believed: %+v", seen)
	}
	seen.Valid = ptr(true)
	if now := time.Now().Add(time.Hour); seen.Counts(now) || Newest([]Snapshot{seen}, now, false) != nil {
		t.Error("it counts")
	}
	before := fsxtest.State(t, snap.Path)

	ours, err := in.adopt(snap.Stamp)
	must(t, err)
	if after := fsxtest.State(t, snap.Path); after != before {
		t.Errorf("the original was\n%s\nand is\n%s", before, after)
	}
	if want := StampOf(snap.Stamp.Time().Add(time.Second)); ours.Stamp != want {
		t.Errorf("it is called %s, not %s", ours.Stamp, want)
	}
	got, err := in.store.Get(ours.Stamp)
	must(t, err)
	if got.Foreign || got.Kind != Adopted || got.Pinned || !got.IsValid() || !got.Full ||
		got.Manifest.Artifacts[DB].SourcePath != in.src.DB || got.Manifest.Roots[DB].Path == "" {
		t.Errorf("adopted: %+v", got)
	}
	result, err := in.store.Validate(context.Background(), ours.Stamp, ValidateOptions{})
	if err != nil || !result.Valid {
		t.Errorf("%+v, %v", result, err)
	}
	err = filepath.WalkDir(ours.Path, func(path string, _ fs.DirEntry, err error) error {
		if info, statErr := os.Lstat(path); statErr != nil || in.store.isForeign(info) {
			t.Errorf("%s is the stranger's", path)
		}
		return err
	})
	must(t, err)
}

// What a foreign snapshot may hold to harm its reader ends the adoption, or is left
// out of it.
func TestHostileForeignSnapshots(t *testing.T) {
	cases := map[string]func(t *testing.T, in *installation, dir, cage string) error{
		"a link for the directory": func(t *testing.T, in *installation, dir, cage string) error {
			return errors.Join(os.Rename(dir, dir+"x"), os.Symlink(cage, dir))
		},
		"a link for the database": func(t *testing.T, in *installation, dir, cage string) error {
			return relink(filepath.Join(dir, "db/atocore.db"), filepath.Join(cage, "atocore.db"))
		},
		"a link for its directory": func(t *testing.T, in *installation, dir, cage string) error {
			return relink(filepath.Join(dir, "db"), cage)
		},
		"a link for the registry": func(t *testing.T, in *installation, dir, cage string) error {
			return relink(filepath.Join(dir, RegistryFile), filepath.Join(cage, "project-registry.json"))
		},
		"a link for Chroma": func(t *testing.T, in *installation, dir, cage string) error {
			return relink(filepath.Join(dir, ChromaDir), filepath.Join(cage, "chroma"))
		},
		"a FIFO in Chroma": func(t *testing.T, in *installation, dir, cage string) error {
			return unix.Mkfifo(filepath.Join(dir, ChromaDir, "fifo"), 0o600)
		},
		"a registry of 6 GB": func(t *testing.T, in *installation, dir, cage string) error {
			return os.Truncate(filepath.Join(dir, RegistryFile), 6<<30)
		},
		"a damaged database": func(t *testing.T, in *installation, dir, cage string) error {
			return os.WriteFile(filepath.Join(dir, DBFile), []byte("SQLite format 3\x00 and nothing"), 0o600)
		},
	}
	for name, harm := range cases {
		t.Run(name, func(t *testing.T) {
			in := installFull(t)
			cage := cage(t, in)
			snap := foreign(t, in)
			must(t, harm(t, in, snap.Path, cage))
			ours, err := in.adopt(snap.Stamp)
			if err == nil {
				t.Errorf("adopted as %s", ours.Stamp)
			}
			t.Log(err)
			uncagedBelow(t, in.store.staging())
			uncagedBelow(t, in.store.quarantine())
			if failure.KindOf(err) != failure.Invalid && in.staged(t) != "" {
				t.Error("something is left in staging/")
			}
		})
	}
	t.Run("metadata of 2 MiB, and of a path that leads out", func(t *testing.T) {
		for _, text := range []string{
			strings.Repeat(" ", 2<<20),
			`{"db_snapshot_path": "/x/../../../../etc/passwd", "registry_snapshot_path": "..", ` +
				`"chroma_snapshot_included": true}`,
		} {
			in := installFull(t)
			snap := foreign(t, in)
			must(t, os.WriteFile(filepath.Join(snap.Path, MetadataFile), []byte(text), 0o600))
			if ours, err := in.adopt(snap.Stamp); err != nil {
				t.Logf("%v", err)
			} else if ours.Manifest.DB.Tables["memories"] != 3 {
				t.Errorf("%+v", ours.Manifest.DB)
			}
		}
	})
}

func relink(path, to string) error { return errors.Join(os.RemoveAll(path), os.Symlink(to, path)) }
