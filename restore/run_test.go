package restore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

func TestRestoreReplacesEverything(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	live := s.live()
	chromaBefore, err := inodeOf(live.Chroma)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Run(context.Background(), s.mustRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if !res.DBRestored || !res.RegistryRestored || !res.ChromaRestored || !res.RestoredIntegrityOK || res.RolledBack {
		t.Errorf("result: %+v", res)
	}
	if got := contents(t, live.DB); got != "new" {
		t.Errorf("the restored database says %q: the old -wal leaked into it", got)
	}
	for _, suffix := range sidecars {
		if exists(live.DB + suffix) {
			t.Errorf("%s is beside the restored database", suffix)
		}
	}
	if got := mustRead(t, live.Registry); got != `{"projects":["new"]}` {
		t.Errorf("registry: %s", got)
	}
	if exists(filepath.Join(live.Chroma, "only-old.bin")) ||
		mustRead(t, filepath.Join(live.Chroma, "seg/data.bin")) != "new vectors" {
		t.Error("the Chroma directory is not the snapshot's")
	}
	if after, err := inodeOf(live.Chroma); err != nil || !after.sameInode(chromaBefore) {
		t.Errorf("the Chroma directory itself was exchanged: a bind mount would keep the old one (%v)", err)
	}
	assertNoTraces(t, s)

	// The way back.
	pre, err := snapshot.ParseStamp(res.PreRestoreSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	back := s.mustRequest(t)
	back.Stamp, back.NoPreSnapshot = pre, true
	if _, err := Run(context.Background(), back); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, live.DB); got != "old,old in the wal" {
		t.Errorf("after the roll-back the database says %q", got)
	}
	if mustRead(t, filepath.Join(live.Chroma, "only-old.bin")) != "taken" ||
		exists(filepath.Join(live.Chroma, "only-new.bin")) {
		t.Error("after the roll-back the Chroma directory is not the old one")
	}
}

// assertNoTraces fails when a finished restore left anything beside live data,
// or its journal.
func assertNoTraces(t testing.TB, s scene) {
	t.Helper()
	if p := s.mustPrint(t); strings.Contains(p, workPrefix) {
		t.Errorf("left beside live data:\n%s", p)
	}
	if exists(journalPath(s.backups())) {
		t.Error("the journal still stands")
	}
}

func TestRefusesWithoutConfirmation(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before := s.mustPrint(t)
	r := s.mustRequest(t)
	r.ConfirmServiceStopped = false
	_, err := Run(context.Background(), r)
	if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "--confirm-service-stopped") {
		t.Errorf("got %v", err)
	}
	if s.mustPrint(t) != before {
		t.Error("something was touched")
	}
}

func TestPlanTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before, err := printOf(s.base)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(context.Background(), s.mustRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := printOf(s.base); after != before {
		t.Error("something was touched")
	}
	if len(plan.Items) != 3 || len(plan.Refusals) != 0 || plan.Items[0].Layout != "plain" ||
		plan.Items[0].NewBytes == 0 ||
		plan.Items[2].OldFiles != 4 {
		t.Errorf("plan: %+v", plan)
	}
	if len(plan.Space) == 0 || plan.Space[0].Free == 0 {
		t.Errorf("space: %+v", plan.Space)
	}
}

func TestRestoreOntoAnEmptyDisk(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if err := os.RemoveAll(filepath.Join(s.base, "live")); err != nil {
		t.Fatal(err)
	}
	res, err := Run(context.Background(), s.mustRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if contents(t, s.live().DB) != "new" || !res.ChromaRestored {
		t.Errorf("result: %+v", res)
	}
	info, err := os.Stat(filepath.Dir(s.live().DB))
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the database's directory: %v, %v", info.Mode(), err)
	}
	assertNoTraces(t, s)
}

func TestLayOutTouchesNothingLive(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before := s.mustPrint(t)
	r := s.mustRequest(t)
	r.ConfirmServiceStopped, r.To = false, filepath.Join(s.base, "out/there")
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if s.mustPrint(t) != before || res.PreRestoreSnapshot != "" {
		t.Error("something live was touched")
	}
	if got := contents(t, filepath.Join(r.To, "db/atocore.db")); got != "new" || !res.RestoredIntegrityOK {
		t.Errorf("laid out: %q, %+v", got, res)
	}
	if mustRead(t, filepath.Join(r.To, "chroma/seg/deep/x")) != "x" ||
		mustRead(t, filepath.Join(r.To, "config/project-registry.json")) == "" {
		t.Error("not everything was laid out")
	}
	if _, err := Run(context.Background(), r); failure.KindOf(err) != failure.Refused {
		t.Errorf("into a directory that is not empty: %v", err)
	}
}
