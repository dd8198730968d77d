package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// policyIn reads the newest policy document of the house's vault.
func (h *shipped) policyIn(a *App) (p offsite.PolicyDocument) {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(a.Config.Offsite[0].Path, "policy", "*.json"))
	if err != nil || len(names) == 0 {
		h.t.Fatalf("%q, %v", names, err)
	}
	data, err := os.ReadFile(slices.Max(names))
	if err != nil {
		h.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// What the host has pinned, suspects, has accepted and has forgotten reaches the
// vault with the next sync.
func TestPolicyDocumentSaysWhatTheHostKnows(t *testing.T) {
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	if p := h.policyIn(a); len(p.Pinned)+len(p.Suspect)+len(p.Accepted)+len(p.Forgotten) != 0 {
		t.Errorf("at first: %+v", p)
	}
	mark := func(stamp snapshot.Stamp, change func(m *snapshot.Manifest)) {
		t.Helper()
		path := filepath.Join(a.Config.Backup.Dir, "snapshots", string(stamp), snapshot.ManifestFile)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var m snapshot.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if data, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		put(t, path, string(data))
	}
	mark(h.stamps[0], func(m *snapshot.Manifest) { m.Pinned = true })
	mark(h.stamps[1], func(m *snapshot.Manifest) { m.Suspect, m.AcceptedAt = []string{"db_shrunk"}, &noon })
	mark(h.stamps[2], func(m *snapshot.Manifest) { m.Suspect = []string{"db_shrunk"} })
	v, err := a.OpenVaultTarget(t.Context(), a.Config.Offsite[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	stored, _, err := v.Find(t.Context(), string(h.stamps[0]), v.Signers)
	if err != nil {
		t.Fatal(err)
	}
	o, err := v.pruneOptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []retention.Snapshot{{Pinned: true}, {}, {Suspect: true}} {
		got := retention.Snapshot{Stamp: string(h.stamps[i]), Suspect: i == 1} // as it was when it was sent
		o.Adjust(&got)
		if got.Pinned != want.Pinned || got.Suspect != want.Suspect {
			t.Errorf("a prune from here takes %s for %+v", got.Stamp, got)
		}
	}
	gone, err := v.ForgetSnapshot(t.Context(), string(stored.Push))
	v.Close()
	if err != nil || !slices.Equal(gone, []offsite.PushID{stored.Push}) {
		t.Fatalf("forgot %v, %v", gone, err)
	}
	h.mustSync(a)
	p := h.policyIn(a)
	if !slices.Equal(p.Pinned, h.stamps[:1]) || !slices.Equal(p.Accepted, h.stamps[1:2]) ||
		!slices.Equal(p.Suspect, h.stamps[2:3]) || !slices.Equal(p.Forgotten, gone) {
		t.Errorf("%+v", p)
	}
}
