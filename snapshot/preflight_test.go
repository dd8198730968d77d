package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Each refusal says what is wrong and what to do, and nothing is written: not
// in the backup directory, and no database where there was none.
func TestPreflight(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, in *installation)
		o       TakeOptions
		kind    failure.Kind
		words   []string
	}{
		{"no database", func(t *testing.T, in *installation) { must(t, os.Remove(in.src.DB)) }, TakeOptions{},
			failure.NotFound, []string{"atocore.db", "no such file", "check the path, and that its file system is " +
				"mounted"}},
		{"no directory of the database", func(t *testing.T, in *installation) {
			in.src.DB = filepath.Join(in.dir, "none/atocore.db")
		}, TakeOptions{},
			failure.NotFound, []string{"none/atocore.db", "no such file"}},
		{"a directory", func(t *testing.T, in *installation) { in.src.DB = filepath.Dir(in.src.DB) }, TakeOptions{},
			failure.Other, []string{"data/db", "not a regular file"}},
		{"a FIFO", func(t *testing.T, in *installation) {
			must(t, os.Remove(in.src.DB))
			must(t, syscall.Mkfifo(in.src.DB, 0o600))
		}, TakeOptions{}, failure.Other, []string{"not a regular file"}},
		{"not SQLite", func(t *testing.T, in *installation) {
			edit(t, in.src.DB, overwrite(0, "PK\x03\x04"))
		}, TakeOptions{},
			failure.Other, []string{"not a SQLite database", "its header is not one"}},
		{"nothing in it", func(t *testing.T, in *installation) { must(t, os.Truncate(in.src.DB, 0)) }, TakeOptions{},
			failure.Other, []string{"not a SQLite database: the file is empty"}},
		{"cut short", func(t *testing.T, in *installation) { must(t, os.Truncate(in.src.DB, 60)) }, TakeOptions{},
			failure.Other, []string{"not a SQLite database: the file has only 60 bytes"}},
		{"a table is missing", func(t *testing.T, in *installation) {
			in.src.RequiredTables = []string{"MEMORIES", "projects"}
		}, TakeOptions{},
			failure.Other, []string{`required_tables: there is no table "projects"`, "atocore.required_tables"}},
		{"no chroma", func(t *testing.T, in *installation) {}, TakeOptions{Full: true},
			failure.Other, []string{"data/chroma", "the Chroma directory does not exist", "--no-chroma"}},
		{"chroma is a file", func(t *testing.T, in *installation) {
			must(t, os.WriteFile(in.src.Chroma, nil, 0o600))
		}, TakeOptions{Full: true},
			failure.Other, []string{"it is not a directory"}},
		{"chroma not configured", func(t *testing.T, in *installation) { in.src.Chroma = "" }, TakeOptions{Full: true},
			failure.Config, []string{"no Chroma directory is configured", "atocore.chroma_path"}},
		{"no space", func(t *testing.T, in *installation) {}, TakeOptions{MinFree: 1 << 60},
			failure.NoSpace, []string{"must stay free (min_free)", "free some space, or lower backup.min_free"}},
		{"staging is gone", func(t *testing.T, in *installation) {
			must(t, os.Remove(in.store.staging()))
		}, TakeOptions{},
			failure.Config, []string{"staging", "no such file", "is its disk mounted?"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := install(t)
			test.prepare(t, in)
			before := in.liveState(t) + fsxtest.State(t, in.store.Dir())
			_, err := in.take(test.o)
			wantError(t, err, test.kind, test.words...)
			if after := in.liveState(t) + fsxtest.State(t, in.store.Dir()); after != before {
				t.Errorf("before\n%s after\n%s", before, after)
			}
		})
	}
}

// A first snapshot of an empty database is no shrinking, nor is a second.
func TestPreflightOfAnEmptyDatabase(t *testing.T) {
	in := install(t)
	execDB(t, in.src.DB, "DELETE FROM memories", "DELETE FROM source_documents")
	in.mustTake(t, TakeOptions{})
	in.mustTake(t, TakeOptions{})
	if n := len(in.published(t)); n != 2 {
		t.Errorf("%d snapshots", n)
	}
}

func TestUnknownChromaMethod(t *testing.T) {
	in := installFull(t)
	_, err := in.take(TakeOptions{Full: true, Chroma: chroma.Options{Method: "osmosis"}})
	wantError(t, err, failure.Config, `called "osmosis"`)
	if in.staged(t) != "" || len(in.published(t)) != 0 {
		t.Error("something is left")
	}
}

// A rename ends at a bind mount, also of the same file system.
func TestStagingOnAnotherMount(t *testing.T) {
	in := install(t)
	cmd := forktest.OwnMounts(forktest.Command("other mount", job{Store: in.store.Dir(), Sources: in.src}))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "refused twice\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// takeAcrossMounts runs in a mount namespace of its own.
func takeAcrossMounts(j job) error {
	store, err := Open(j.Store)
	if err != nil {
		return err
	}
	if err := forktest.PrivateMounts(); err != nil {
		return err
	}
	if err := forktest.BindOver(store.staging()); err != nil {
		return err
	}
	const words = "staging/ and snapshots/ lie on different file systems or mounts"
	_, takeErr := store.Take(context.Background(), j.Sources, TakeOptions{Kind: Daily})
	_, openErr := Open(j.Store)
	for _, err := range []error{takeErr, openErr} {
		if failure.KindOf(err) != failure.Config || !contains(err, words) {
			return fmt.Errorf("got %v", err)
		}
	}
	fmt.Println("refused twice")
	return nil
}

// Where AtoCore owns snapshots/, that is found out before the copying.
func TestSnapshotsOfAnother(t *testing.T) {
	in := install(t)
	must(t, os.Chmod(in.store.snapshots(), 0o555))
	defer os.Chmod(in.store.snapshots(), 0o755)
	cmd := forktest.Command("take", job{Store: in.store.Dir(), Sources: in.src})
	if os.Geteuid() == 0 {
		for _, dir := range []string{in.store.staging(), filepath.Dir(in.src.DB)} {
			must(t, os.Chmod(dir, 0o777))
		}
		for _, dir := range []string{in.store.Dir(), in.dir, filepath.Dir(in.dir)} {
			must(t, os.Chmod(dir, 0o755))
		}
		forktest.As(65534, cmd)
	}
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("error: backup.dir: %s: permission denied: let uid ", in.store.snapshots()); err == nil ||
		!contains(fmt.Errorf("%s", out), want) {
		t.Errorf("%v: %s; want %s", err, out, want)
	}
	if in.staged(t) != "" {
		t.Error("something was staged")
	}
}
