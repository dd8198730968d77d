package restore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

func drillOf(t *testing.T, s scene) DrillRequest {
	r := s.mustRequest(t)
	return DrillRequest{Dir: r.dir(), Stamp: s.stamp, Scratch: t.TempDir(),
		Queries: []string{"SELECT count(*) > 0 FROM memories", "SELECT content = 'new' FROM memories"}}
}

func assertEmpty(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the scratch directory holds %v, %v", entries, err)
	}
}

func TestDrillPasses(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	before, _ := printOf(s.base)
	r := drillOf(t, s)
	result, err := Drill(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !result.Passed || len(result.Errors) != 0 || result.Files != 13 || result.Bytes == 0 {
		t.Errorf("%+v", result)
	}
	for _, step := range []string{
		"restore db",
		"restore registry",
		"restore chroma",
		"integrity",
		"rows",
		"chroma",
		"queries",
	} {
		if _, ok := result.DurationsMS[step]; !ok {
			t.Errorf("no duration of %q: %v", step, result.DurationsMS)
		}
	}
	assertEmpty(t, r.Scratch)
	if after, _ := printOf(s.base); after != before {
		t.Error("the drill touched the store")
	}
}

func TestDrillFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*testing.T, *DrillRequest)
		says  string
	}{
		"query": {func(_ *testing.T, r *DrillRequest) { r.Queries = []string{"SELECT 1 = 2"} }, "is not true"},
		"table": {
			func(_ *testing.T, r *DrillRequest) { r.RequiredTables = []string{"documents"} },
			"db_required_table_missing",
		},
		"digest": {
			func(t *testing.T, r *DrillRequest) { flip(t, filepath.Join(r.Dir, "chroma/chroma.sqlite3")) },
			"checksum_mismatch",
		},
		"rows": {func(t *testing.T, r *DrillRequest) {
			path := filepath.Join(r.Dir, snapshot.ManifestFile)
			data := strings.Replace(mustRead(t, path), `"memories": 1`, `"memories": 7`, 1)
			writeOver(t, path, data)
		}, "table memories has 1 rows, the manifest says 7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fullScene(t)
			r := drillOf(t, s)
			c.spoil(t, &r)
			result, err := Drill(context.Background(), r)
			if err != nil || result.Passed || !strings.Contains(strings.Join(result.Errors, "\n"), c.says) {
				t.Errorf("%v, %+v", err, result)
			}
			assertEmpty(t, r.Scratch)
		})
	}
}

func TestDrillThatCannotBeHeld(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	r := drillOf(t, s)
	r.MinFree = 1 << 60
	if _, err := Drill(context.Background(), r); failure.KindOf(err) != failure.NoSpace {
		t.Errorf("no room: %v", err)
	}
	r = drillOf(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	stop := fsx.Observe(func(op fsx.Op, _ string) error {
		if op == fsx.OpCopy {
			cancel()
		}
		return nil
	})
	_, err := Drill(ctx, r)
	stop()
	if failure.KindOf(err) != failure.Interrupted {
		t.Errorf("cancelled: %v", err)
	}
	assertEmpty(t, r.Scratch)
	r.Dir += "x"
	if _, err := Drill(context.Background(), r); failure.KindOf(err) != failure.NotFound {
		t.Errorf("missing: %v", err)
	}
}
