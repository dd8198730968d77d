package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// rotDB damages a page of memories in a live database.
func rotDB(t testing.TB, path string) {
	t.Helper()
	edit(t, path, overwrite(2*4096, "rotten to the core"))
}

func TestInvalidCopyGoesToQuarantine(t *testing.T) {
	for name, test := range map[string]struct {
		harm  func(t *testing.T, in *installation)
		words []string
	}{
		"a rotten page": {
			func(t *testing.T, in *installation) { rotDB(t, in.src.DB) },
			[]string{"db_integrity_check_failed: db/atocore.db: "},
		},
		"a table missing": {
			func(t *testing.T, in *installation) { in.src.RequiredTables = []string{"Memories", "notes"} },
			nil,
		},
		"a segment without its pickle": {func(t *testing.T, in *installation) {
			pickles, _ := filepath.Glob(filepath.Join(in.src.Chroma, "*/index_metadata.pickle"))
			must(t, os.Remove(pickles[0]))
		}, []string{"chroma_segment_missing: ", "index_metadata.pickle"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := installFull(t)
			test.harm(t, in)
			_, err := in.take(TakeOptions{Full: true})
			if test.words == nil { // that is found out before
				wantError(t, err, failure.Other, "notes")
				return
			}
			wantError(
				t,
				err,
				failure.Invalid,
				append(test.words, "the copy did not validate: ", "it is kept in "+in.store.quarantine())...)
			if strings.Contains(err.Error(), "staging") {
				t.Errorf("it speaks of staging: %v", err)
			}
			if len(in.published(t)) != 0 || in.staged(t) != "" {
				t.Error("something was published, or is left in staging")
			}
			kept, err := os.ReadDir(in.store.quarantine())
			if err != nil || len(kept) != 1 {
				t.Fatalf("quarantine holds %v, %v", kept, err)
			}
			m, err := ReadManifest(filepath.Join(in.store.quarantine(), kept[0].Name()))
			if err != nil || m.Validation.Valid || codes(m.Validation.Errors) == "" {
				t.Errorf("%+v, %v", m, err)
			}
			stamp := Stamp(kept[0].Name()).Time()
			if removed, err := in.store.SweepQuarantine(stamp.Add(7*24*time.Hour), 7*24*time.Hour); err != nil ||
				len(removed) != 0 {
				t.Errorf("too early: %q, %v", removed, err)
			}
			if removed, err := in.store.SweepQuarantine(stamp.Add(7*24*time.Hour+1), 7*24*time.Hour); err != nil ||
				len(removed) != 1 {
				t.Errorf("after a week: %q, %v", removed, err)
			}
		})
	}
}

// Every call that fails on the way to quarantine: nothing is published.
func TestQuarantineFailing(t *testing.T) {
	in := install(t)
	rotDB(t, in.src.DB)
	in.freshStore(t)
	done := false
	fsxtest.EachFailure(t, func() error {
		_, err := in.take(TakeOptions{})
		if failure.KindOf(err) == failure.Invalid {
			done = true
			return nil
		}
		return err
	}, func(k int, at string, err error) {
		if len(in.published(t)) != 0 || in.staged(t) != "" {
			t.Errorf("%s: %v, left %s", at, err, in.staged(t))
		}
		in.freshStore(t)
	})
	if !done {
		t.Error("it was never found invalid")
	}
}

// A stamp that is taken, by a snapshot or in quarantine, is never used again:
// the next second is waited for.
func TestStampsAreUnique(t *testing.T) {
	in := install(t)
	seen := map[Stamp]bool{}
	for range 3 {
		snap := in.mustTake(t, TakeOptions{})
		if seen[snap.Stamp] {
			t.Fatalf("%s again", snap.Stamp)
		}
		seen[snap.Stamp] = true
	}
	now := time.Now()
	must(t, os.Mkdir(filepath.Join(in.store.quarantine(), string(StampOf(now.Add(time.Minute)))), 0o700))
	stamp, err := in.store.freeStamp(t.Context(), now.Add(time.Minute-2*time.Second))
	if err != nil || stamp.Time().Sub(now) > time.Minute {
		t.Errorf("%s, %v", stamp, err)
	}
	if n := len(in.published(t)); n != 3 {
		t.Errorf("%d published", n)
	}
}

// AtoCore takes the stamp at the very moment of the rename: its snapshot stays
// as it is, and ours gets a later stamp and says so everywhere.
func TestAtoCoreTakesTheSameStamp(t *testing.T) {
	in := install(t)
	theirs := ""
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if op == fsx.OpRename && filepath.Dir(path) == in.store.snapshots() && theirs == "" {
			theirs = path
			return os.Mkdir(path, 0o755)
		}
		return nil
	})
	defer stop()
	snap := in.mustTake(t, TakeOptions{})
	if theirs == "" || snap.Path == theirs || snap.Stamp <= Stamp(filepath.Base(theirs)) {
		t.Fatalf("theirs %s, ours %s", theirs, snap.Path)
	}
	if tree := fsxtest.Tree(t, theirs); tree != ".\n" {
		t.Errorf("theirs now holds\n%s", tree)
	}
	meta, err := ReadMetadata(snap.Path)
	if err != nil || *meta.BackupRoot != snap.Path || snap.Manifest.Stamp != snap.Stamp {
		t.Errorf("%+v, %v", meta, err)
	}
	if len(in.published(t)) != 1 || in.staged(t) != "" {
		t.Error("something is left, or not there")
	}
}

// What Take returns is what Get and List return.
func TestTakeGetAndListAgree(t *testing.T) {
	in := install(t)
	taken := in.mustTake(t, TakeOptions{})
	got, err := in.store.Get(taken.Stamp)
	must(t, err)
	list, _, err := in.store.List(time.Now())
	must(t, err)
	for _, s := range []Snapshot{got, list[0]} {
		if s.Path != taken.Path || s.Bytes != taken.Bytes || s.BytesExclusive != s.Bytes || s.Kind != Daily ||
			!s.IsValid() || !s.Checked.Equal(
			taken.Checked,
		) ||
			string(s.RawMetadata) != string(taken.RawMetadata) ||
			len(s.Manifest.Files) != len(taken.Manifest.Files) ||
			!s.CreatedAt.Equal(taken.Stamp.Time()) {
			t.Errorf("%+v\nis not\n%+v", s, taken)
		}
	}
	must(t, os.Link(filepath.Join(taken.Path, DBFile), filepath.Join(in.store.Dir(), "base")))
	if got, err = in.store.Get(taken.Stamp); err != nil || got.BytesExclusive >= got.Bytes-4096 {
		t.Errorf("%d of %d bytes are its own, %v", got.BytesExclusive, got.Bytes, err)
	}
}
