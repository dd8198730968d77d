//go:build rig

package app

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite"
)

// Sixty days with a snapshot and a push each, and a random object of the vault
// harmed at random each night: verify names it in the morning, the day's sync
// mends it, and at the end every snapshot comes back.
func TestRigSixtyDaysOfDamage(t *testing.T) {
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	target := a.Config.Offsite[0]
	random := rand.New(rand.NewPCG(60, 2))
	ways := slices.Sorted(maps.Keys(harms))
	kinds := map[string]int{}
	for day := 3; day < 63; day++ {
		names := h.stored()
		name, how := names[random.IntN(len(names))], ways[random.IntN(len(ways))]
		needed := h.needed()[name] || !strings.HasPrefix(name, "packs/") && !strings.HasPrefix(name, "snapshots/")
		if err := harms[how](h.path("vault/" + name)); err != nil {
			t.Fatal(err)
		}
		kinds[filepath.Dir(name)]++
		doc, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1})
		named := slices.ContainsFunc(doc.Findings, func(f offsite.Finding) bool {
			// Of a document and its signature that do not agree none is known to be the damaged one.
			return f.Object == name || f.Object == strings.TrimSuffix(name, ".sig") || f.Object == path.Dir(name)+"/"
		})
		if needed && (err == nil || !named) {
			t.Errorf("day %d: %s was %s, and verify says %v, %v", day, name, how, err, doc.Findings)
		}
		h.take(a, day)
		if docs, err := a.Sync(t.Context(), "", false); err != nil {
			t.Errorf("day %d: %s was %s: sync: %v, %+v", day, name, how, err, docs)
		}
	}
	if doc, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1}); err != nil {
		t.Errorf("at the end: %v, %v", err, doc.Findings)
	}
	h.wantWhole(a)
	provetest.Say(t, "harmed objects by their directory: %v; snapshots restored in the end: %d", kinds, len(h.stamps))
	provetest.Points(t, 60)
}

// needed names what the newest push of each stamp needs. The objects of a push in
// whose place a newer one stands wait to be swept.
func (h *shipped) needed() map[string]bool {
	h.t.Helper()
	lists, err := filepath.Glob(h.path("vault/snapshots/*.SHA256SUMS"))
	if err != nil {
		h.t.Fatal(err)
	}
	newest, made := map[string]string{}, map[string]time.Time{}
	for _, list := range lists {
		info, err := os.Stat(list)
		if err != nil {
			h.t.Fatal(err)
		}
		if stamp, _, _ := strings.Cut(filepath.Base(list), "-"); info.ModTime().After(made[stamp]) {
			newest[stamp], made[stamp] = list, info.ModTime()
		}
	}
	all := map[string]bool{}
	for _, list := range newest {
		push := "snapshots/" + strings.TrimSuffix(filepath.Base(list), ".SHA256SUMS")
		data, err := os.ReadFile(list)
		if err != nil {
			h.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			all[path.Join("snapshots", name)] = true // a list names what lies beside it
		}
		for _, suffix := range []string{".SHA256SUMS", ".SHA256SUMS.sig", ".json", ".manifest.age"} {
			all[push+suffix] = true
		}
	}
	return all
}

// stored names every object of the vault that the host could write again.
func (h *shipped) stored() (names []string) {
	h.t.Helper()
	for _, under := range []string{"packs", "snapshots", "policy", "host"} {
		err := filepath.WalkDir(h.path("vault/"+under), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				names = append(names, strings.TrimPrefix(path, h.path("vault")+"/"))
			}
			return err
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return names
}
