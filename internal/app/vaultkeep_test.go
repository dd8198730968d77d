package app

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
)

// mustOpen opens the vault of the one target.
func (h *shipped) mustOpen(a *App) *Vault {
	h.t.Helper()
	v, err := a.OpenVaultTarget(h.t.Context(), a.Config.Offsite[0], nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { v.Close() })
	return v
}

// What is forgotten is gone there, and is not sent again although it is here.
func TestForgetSnapshot(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	v := h.mustOpen(a)
	list, _, err := v.ListVerified(t.Context(), v.Signers)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	if _, err := v.ForgetSnapshot(t.Context(), "20200101T000000Z"); failure.KindOf(err) != failure.NotFound {
		t.Errorf("what is not there: %v", err)
	}
	gone, err := v.ForgetSnapshot(t.Context(), string(h.stamps[0]))
	if err != nil || len(gone) != 1 || gone[0] != list[0].Push {
		t.Fatalf("%v, %v", gone, err)
	}
	if doc := h.mustSync(a); len(doc.Pushed) != 0 {
		t.Errorf("it is sent again: %+v", doc.Pushed)
	}
	state, err := offsite.LoadState(a.Config.StateDir, "disk")
	if err != nil || !state.IsForgotten(h.stamps[0]) || len(state.Pushes) != 2 || len(state.Stamps) != 2 {
		t.Errorf("%+v, %v", state, err)
	}
}

// What an operator takes out of a vault is no roll-back of it, also the newest, also
// all there is; and from then on nobody says that it is there.
func TestForgetTheNewest(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	for left := len(h.stamps) - 1; left >= 0; left-- {
		stamp := h.stamps[left]
		if _, err := h.mustOpen(a).ForgetSnapshot(t.Context(), string(stamp)); err != nil {
			t.Fatal(err)
		}
		holders, err := a.OffsiteHolders()
		if err != nil || len(holders) != left || holders[stamp] != nil {
			t.Errorf("%d are left: held are %v, %v", left, holders, err)
		}
		if docs, err := a.Sync(t.Context(), "", false); err != nil || docs[0].State != "ok" {
			t.Errorf("%d are left: %+v, %v", left, docs, err)
		}
	}
}

// Where this machine may only add, it forgets and prunes nothing.
func TestAppendOnlyTargetIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	a.Config.Offsite[0].AppendOnly = true
	v := h.mustOpen(a)
	before := countFiles(t, h.path("vault"))
	for name, do := range map[string]func() error{
		"forget": func() error {
			_, err := v.ForgetSnapshot(t.Context(), string(h.stamps[0]))
			return err
		},
		"prune --now": func() error {
			_, err := v.Thin(t.Context(), time.Now(), offsite.PruneOptions{Now: true})
			return err
		},
	} {
		err := do()
		if failure.KindOf(err) != failure.Refused || !strings.Contains(failure.HintOf(err), "on the second machine") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := countFiles(t, h.path("vault")); after != before {
		t.Errorf("%d objects, there were %d", after, before)
	}
}

// A prune of a target goes by the configuration, keeps what is pinned here since it
// was sent, and remembers what it removed: nobody took that away.
func TestThin(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	r := &a.Config.Offsite[0].Retention
	r.Daily, r.KeepWithin, r.MaxDeleteFraction = 1, 0, 1
	if err := a.Pin(t.Context(), h.stamps[0], true); err != nil {
		t.Fatal(err)
	}
	v := h.mustOpen(a)
	now := time.Now().Add(time.Minute)
	dry, err := v.Thin(t.Context(), now, offsite.PruneOptions{DryRun: true})
	if err != nil || len(dry.Deleted) != 0 || len(dry.Decision.Delete()) != 1 ||
		dry.Decision.Delete()[0].Stamp != string(h.stamps[1]) {
		t.Fatalf("%+v, %v", dry, err)
	}
	done, err := v.Thin(t.Context(), now, offsite.PruneOptions{Confirm: true})
	if err != nil || len(done.Deleted) != 1 || done.Deleted[0] != h.stamps[1] {
		t.Fatalf("%+v, %v", done, err)
	}
	state, err := offsite.LoadState(a.Config.StateDir, "disk")
	if err != nil || len(state.Stamps) != 2 || len(state.Pushes) != 2 {
		t.Errorf("%+v, %v", state, err)
	}
	if doc := h.mustSync(a); len(doc.Pushed) != 0 || len(doc.Warnings) != 0 {
		t.Errorf("the next sync: %+v", doc)
	}
	lock, err := a.lockTarget(t.Context(), "disk", "a sync")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	a.Options.LockTimeout = 0
	if _, err := v.Thin(t.Context(), now, offsite.PruneOptions{}); failure.KindOf(err) != failure.Locked {
		t.Errorf("while another works there: %v", err)
	}
}

// The retention of a vault in a directory is its own; one that makes no sense is
// refused and nothing is written.
func TestSetVaultPolicy(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	key := []string{h.publicKey()}
	open := func() *Vault {
		t.Helper()
		v, err := OpenVaultDir(t.Context(), h.path("vault"), key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { v.Close() })
		return v
	}
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*retention.Policy)
		fails  bool
	}{
		{"more days", func(p *retention.Policy) { p.Daily = 30 }, false},
		{"a zone and a week", func(p *retention.Policy) { p.Location, p.WeekStart = zone, time.Monday }, false},
		{"nothing", func(*retention.Policy) {}, false},
		{"weeks below nothing", func(p *retention.Policy) { p.Weekly = -1 }, true},
		{"a guard that never holds", func(p *retention.Policy) { p.MaxDeleteFraction = 7 }, true},
		{"a guard that is no number", func(p *retention.Policy) { p.MaxDeleteFraction = math.NaN() }, true},
	} {
		before := open().Info.Retention
		got, err := SetVaultPolicy(t.Context(), open(), test.change)
		if (err != nil) != test.fails || err != nil && failure.KindOf(err) != failure.Usage {
			t.Errorf("%s: %v", test.name, err)
		}
		want := before
		if !test.fails {
			test.change(&want)
		}
		v := open()
		after, err := v.ownPolicy()
		if err != nil || after.Daily != want.Daily || after.Weekly != want.Weekly ||
			after.WeekStart != want.WeekStart || after.MaxDeleteFraction != want.MaxDeleteFraction ||
			want.Location != nil && after.Location.String() != want.Location.String() {
			t.Errorf("%s: %+v, want %+v, %v", test.name, after, want, err)
		}
		if !test.fails && got.Daily != want.Daily {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
	// Of a target it is the configuration's.
	a := h.open()
	defer a.Close()
	a.Config.Offsite[0].Retention.Monthly = 99
	if p, err := h.mustOpen(a).ownPolicy(); err != nil || p.Monthly != 99 {
		t.Errorf("%+v, %v", p, err)
	}
}

// recover.py is laid anew where it is damaged or old, and the documents too.
func TestSyncMendsTheDocuments(t *testing.T) {
	for _, test := range []struct{ name, object string }{
		{"the script", "recover.py"},
		{"the newest host document", "newest host/*.age"},
		{"the newest policy", "newest policy/*.json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newShipped(t, "")
			a := h.open()
			defer a.Close()
			object := h.objects()[test.object]
			if err := harms["flipped"](h.path("vault/" + object)); err != nil {
				t.Fatal(err)
			}
			target := a.Config.Offsite[0]
			if _, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1}); failure.KindOf(err) !=
				failure.Invalid || !strings.Contains(err.Error(), object) {
				t.Fatalf("%v", err)
			}
			docs, err := a.Sync(t.Context(), "", false)
			if err != nil || len(docs[0].Mended) == 0 || !strings.Contains(docs[0].Mended[0], object) {
				t.Errorf("%+v, %v", docs, err)
			}
			if _, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1}); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// A finding is looked for below a directory of the vault.
func TestHasFinding(t *testing.T) {
	v := &Vault{checks: &offsite.Checks{Findings: []offsite.Finding{{Object: "packs/ab.age"},
		{Object: "host/1.age"}}}}
	for prefix, want := range map[string]bool{"packs/": true, "host/": true, "policy/": false, "pack": true} {
		if got := v.hasFinding(prefix); got != want {
			t.Errorf("%s: %v", prefix, got)
		}
	}
}
