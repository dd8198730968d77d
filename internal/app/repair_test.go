package app

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// What a repair would do, does, and cannot do, by what is damaged and what has
// good copies.
func TestRepair(t *testing.T) {
	for _, test := range []struct {
		name     string
		twin     bool // another snapshot holds the same
		file     string
		request  RepairRequest
		kind     failure.Kind
		hint     string
		healed   bool
		planned  int
		complete bool
		text     string
	}{
		{"a plan with a twin", true, snapshot.DBFile, RepairRequest{}, failure.Invalid, "--repair --confirm", false, 1,
			true, ""},
		{"healed from a twin", true, snapshot.DBFile, RepairRequest{Confirm: true}, 0, "", true, 1, true, ""},
		{"a plan without a twin", false, snapshot.DBFile, RepairRequest{}, failure.Invalid,
			"no good copy of what is damaged is known", false, 1, false, ""},
		{"without a twin", false, snapshot.DBFile, RepairRequest{Confirm: true}, failure.Invalid,
			"no good copy of what is damaged is known", false, 1, false, ""},
		{"a target that is none", false, snapshot.DBFile, RepairRequest{From: "other"}, failure.Invalid, "", false, 1,
			false, "no such target"},
		{"a vault that does not have it", false, snapshot.DBFile, RepairRequest{From: "disk"}, failure.Invalid, "",
			false, 1, false, "target disk"},
		{"the manifest", true, snapshot.ManifestFile, RepairRequest{Confirm: true}, failure.Invalid,
			"what its files should be is not known: atobackupd prune", false, 0, true, "only a vault has it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, a, stamp := newOpened(t, "")
			if test.twin {
				h.plant(time.Now().Add(-2*time.Hour), nil)
			}
			path := h.path("backups/snapshots/" + string(stamp) + "/" + test.file)
			if test.file == snapshot.ManifestFile {
				put(t, path, "{")
			} else {
				rot(t, path)
			}
			if _, err := a.Validate(t.Context(), stamp); err != nil {
				t.Fatal(err)
			}
			doc, err := a.Repair(t.Context(), time.Now(), test.request)
			if failure.KindOf(err) != test.kind || !strings.Contains(failure.HintOf(err), test.hint) ||
				doc.Confirmed != test.request.Confirm {
				t.Fatalf("%+v, %v", doc, err)
			}
			if len(doc.Repairs) != 1 || doc.Repairs[0].Stamp != stamp || len(doc.Repairs[0].Files) != test.planned ||
				doc.Repairs[0].Complete() != test.complete || !strings.Contains(doc.Repairs[0].Error, test.text) ||
				(doc.Repairs[0].Error == "") != (test.text == "") {
				t.Fatalf("%+v", doc.Repairs)
			}
			if s, _ := a.Find(t.Context(), string(stamp), time.Now()); s.IsValid() != test.healed {
				t.Errorf("valid: %v", s.IsValid())
			}
			if test.healed && (doc.Repairs[0].Result == nil || !doc.Repairs[0].Result.Valid) {
				t.Errorf("%+v", doc.Repairs[0].Result)
			}
			run, found, err := a.history.LastRun(t.Context(), "scrub")
			if err != nil || found != test.request.Confirm || found && (run.Kind != "repair" ||
				(run.Outcome == history.OK) != test.healed) {
				t.Errorf("the run: %+v, %v", run, err)
			}
		})
	}
}

// What is asked for and cannot be done is said before anything is touched.
func TestRepairRequests(t *testing.T) {
	t.Parallel()
	_, a, stamp := newOpened(t, "")
	if doc, err := a.Repair(t.Context(), time.Now(), RepairRequest{}); err != nil || doc.Repairs == nil ||
		len(doc.Repairs) != 0 {
		t.Errorf("nothing is damaged: %+v, %v", doc, err)
	}
	for _, test := range []struct {
		name    string
		request RepairRequest
		kind    failure.Kind
		text    string
	}{
		{"no key", RepairRequest{From: "disk", Confirm: true}, failure.Usage, "--from needs --identity"},
		{"no such snapshot", RepairRequest{Stamp: "20200101T000000Z"}, failure.NotFound, "20200101T000000Z"},
	} {
		if _, err := a.Repair(t.Context(), time.Now(), test.request); failure.KindOf(err) != test.kind ||
			!strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	// One that is named is looked at, also where it is whole.
	doc, err := a.Repair(t.Context(), time.Now(), RepairRequest{Stamp: stamp})
	if err != nil || len(doc.Repairs) != 1 || len(doc.Repairs[0].Files) != 0 {
		t.Errorf("%+v, %v", doc, err)
	}
	lock, err := a.LockNow(t.Context(), "a take")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	a.Options.LockTimeout = 0
	if _, err := a.Repair(t.Context(), time.Now(), RepairRequest{}); failure.KindOf(err) != failure.Locked {
		t.Errorf("while another works: %v", err)
	}
}

// The other snapshots of ours are asked for good copies, newest first.
func TestDonors(t *testing.T) {
	t.Parallel()
	h, a, middle := newOpened(t, "")
	oldest := h.plant(time.Now().Add(-3*time.Hour), nil)
	newest := h.plant(time.Now().Add(-time.Minute), nil)
	h.madeByAtoCore(time.Now().Add(-2*time.Hour), false) // it says nothing of what it holds
	for _, test := range []struct {
		of   snapshot.Stamp
		want []snapshot.Stamp
	}{
		{middle, []snapshot.Stamp{newest, oldest}},
		{newest, []snapshot.Stamp{middle, oldest}},
		{"20200101T000000Z", []snapshot.Stamp{newest, middle, oldest}},
	} {
		donors, err := a.donors(t.Context(), test.of, time.Now())
		var names, want []string
		for _, d := range donors {
			names = append(names, d.Name)
			if len(d.Files) == 0 || !strings.HasPrefix(d.Dir, h.path("backups/snapshots/")) {
				t.Errorf("%+v", d)
			}
		}
		for _, stamp := range test.want {
			want = append(want, "snapshot "+string(stamp))
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("of %s: %q, %v; want %q", test.of, names, err, want)
		}
	}
}

// A pin that was set after the snapshot was shipped outlasts the repair from a vault.
func TestRepairFromVaultKeepsThePin(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	stamp := h.stamps[2]
	if err := a.Pin(t.Context(), stamp, true); err != nil {
		t.Fatal(err)
	}
	dir := h.path("backups/snapshots/"+string(stamp)) + "/"
	want, err := os.ReadFile(dir + snapshot.DBFile)
	if err != nil {
		t.Fatal(err)
	}
	rot(t, dir+snapshot.DBFile)
	if _, err := a.Validate(t.Context(), stamp); err != nil {
		t.Fatal(err)
	}
	doc, err := a.Repair(t.Context(), time.Now(), RepairRequest{From: "disk", Identity: h.key, Confirm: true})
	if err != nil || len(doc.Repairs) != 1 || doc.Repairs[0].Vault != "disk" ||
		doc.Repairs[0].Files[0].Source != "vault disk" {
		t.Fatalf("%+v, %v", doc, err)
	}
	if got, err := os.ReadFile(dir + snapshot.DBFile); err != nil || !slices.Equal(got, want) {
		t.Errorf("other bytes: %v", err)
	}
	if s, err := a.Find(t.Context(), string(stamp), time.Now()); err != nil || !s.Pinned || !s.IsValid() {
		t.Errorf("%+v, %v", s, err)
	}
}
