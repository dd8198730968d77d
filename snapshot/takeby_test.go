package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

func (in *installation) takeBy(ask func(context.Context) (Stamp, error)) (Snapshot, error) {
	return in.store.TakeBy(
		context.Background(),
		in.src,
		TakeOptions{Kind: Weekly, Full: true, Host: "dalidou", ToolVersion: "1.2.3"},
		ask,
	)
}

// What AtoCore makes on request is this run's snapshot: it has its kind, and
// holds its slot.
func TestTakeByAtoCore(t *testing.T) {
	in := installFull(t)
	snap, err := in.takeBy(func(context.Context) (Stamp, error) {
		in.made(t, "store.db", allKeys("store.db", true), true)
		return theirs, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if snap.Stamp != theirs || snap.Kind != Weekly || !snap.Full || !snap.IsValid() ||
		snap.Manifest.Artifacts[Chroma].Method != methodAtoCore {
		t.Errorf("%+v", snap)
	}
	// Its database has AtoCore's name for it, by which it is found again.
	if c := ContentOf(snap.Path, snap.Manifest, nil); c.DB != filepath.FromSlash(DBFile) {
		t.Errorf("without metadata: %+v", c)
	}
	if r := in.validate(t, theirs); !r.Valid ||
		strings.Join(r.Checked, " ") != "metadata db registry chroma checksums" {
		t.Errorf("%+v", r)
	}
	// And the next one is a new one.
	if _, err := in.takeBy(func(context.Context) (Stamp, error) { return theirs, nil }); err == nil ||
		!strings.Contains(err.Error(), "was there before") {
		t.Errorf("the same again: %v", err)
	}
}

func TestTakeByAtoCoreFails(t *testing.T) {
	down := errors.New("down")
	for name, c := range map[string]struct {
		ask  func(in *installation, t *testing.T) (Stamp, error)
		kind failure.Kind
		text string
	}{
		"it cannot be asked": {
			func(*installation, *testing.T) (Stamp, error) { return "", down },
			failure.Other,
			"down",
		},
		"elsewhere": {
			func(*installation, *testing.T) (Stamp, error) { return theirs, nil },
			failure.Config,
			"and not in ",
		},
		"without Chroma": {func(in *installation, t *testing.T) (Stamp, error) {
			in.made(t, "a.db", allKeys("a.db", false), false)
			return theirs, nil
		}, failure.Other, "without Chroma"},
		"broken": {func(in *installation, t *testing.T) (Stamp, error) {
			dir := in.made(t, "a.db", allKeys("a.db", true), true)
			must(t, os.Remove(filepath.Join(dir, "chroma/chroma.sqlite3")))
			must(t, os.WriteFile(filepath.Join(dir, "config/project-registry.json"), []byte("{"), 0o644))
			return theirs, nil
		}, failure.Invalid, "registry_invalid_json"},
	} {
		in := installFull(t)
		snap, err := in.takeBy(func(context.Context) (Stamp, error) { return c.ask(in, t) })
		if failure.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || snap.Stamp != "" {
			t.Errorf("%s: %+v, %v (kind %v)", name, snap, err, failure.KindOf(err))
		}
		if name == "broken" {
			if list, _, err := in.store.List(time.Now()); err != nil || len(list) != 0 ||
				!exists(filepath.Join(in.store.quarantine(), string(theirs))) {
				t.Errorf("%s: %v, %v", name, list, err)
			}
		}
	}
}

// What would refuse a take of ours refuses this one before AtoCore is asked.
func TestTakeByAtoCoreIsPreceded(t *testing.T) {
	in := installFull(t)
	in.src.RequiredTables = []string{"nothing_of_the_kind"}
	if _, err := in.takeBy(func(context.Context) (Stamp, error) {
		t.Error("it was asked")
		return "", nil
	}); err == nil || !strings.Contains(err.Error(), "required_tables") {
		t.Error(err)
	}
}
