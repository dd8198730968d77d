package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
)

// What is wrong comes before what did not answer.
func TestJoinTargets(t *testing.T) {
	away, other := failed(failure.Unreachable), failed(failure.Auth)
	for _, test := range []struct {
		errs []error
		want failure.Kind
		none bool
	}{
		{nil, 0, true},
		{[]error{away}, failure.Unreachable, false},
		{[]error{away, other}, failure.Auth, false},
		{[]error{other, away}, failure.Auth, false},
		{[]error{away, failed(failure.Invalid), away}, failure.Invalid, false},
	} {
		if err := joinTargets(test.errs); (err == nil) != test.none || failure.KindOf(err) != test.want {
			t.Errorf("%v: %v", test.errs, err)
		}
	}
}

// The error of a verify names what it found, and not more than one can read.
func TestVerifyFailure(t *testing.T) {
	for _, test := range []struct {
		n    int
		more string
	}{{1, ""}, {5, ""}, {6, "; 1 more"}, {200, "; 195 more"}} {
		var findings []offsite.Finding
		for i := range test.n {
			findings = append(findings, offsite.Finding{Object: fmt.Sprintf("packs/%03d.age", i), What: "torn"})
		}
		err := verifyFailure("disk", findings)
		text := err.Error()
		if failure.KindOf(err) != failure.Invalid || !strings.Contains(failure.HintOf(err), "atobackupd status") ||
			!strings.Contains(text, "disk: damaged: packs/000.age: torn") || strings.Contains(text, "packs/005.age") ||
			!strings.Contains(text, test.more) || test.more == "" && strings.Contains(text, " more") {
			t.Errorf("%d: %v", test.n, err)
		}
	}
}

// What the verify of one target comes to, and what is recorded of it.
func TestVerifyTargets(t *testing.T) {
	for _, test := range []struct {
		name    string
		bounds  VerifyBounds
		harm    func(t *testing.T, h *shipped, a *App)
		kind    failure.Kind
		text    string
		outcome history.Outcome
	}{
		{"well", VerifyBounds{Fraction: 1}, func(*testing.T, *shipped, *App) {}, 0, "", history.OK},
		{"one snapshot", VerifyBounds{Fraction: 1, Name: "latest"}, func(*testing.T, *shipped, *App) {}, 0, "",
			history.OK},
		{"within a bound and in time", VerifyBounds{Fraction: 1, Bytes: 1, Every: time.Hour},
			func(*testing.T, *shipped, *App) {}, 0, "", history.OK}, // what was pushed just now was read back
		{"a pack is torn", VerifyBounds{Fraction: 1}, func(t *testing.T, h *shipped, _ *App) {
			if err := harms["cut"](h.path("vault/" + h.objects()["oldest packs/*.age"])); err != nil {
				t.Fatal(err)
			}
		}, failure.Invalid, "damaged: packs/", history.Failed},
		{"a pack is missing", VerifyBounds{Fraction: 1}, func(t *testing.T, h *shipped, _ *App) {
			if err := os.Remove(h.path("vault/" + h.objects()["newest packs/*.age"])); err != nil {
				t.Fatal(err)
			}
		}, failure.Invalid, "damaged: packs/", history.Failed},
		{"its directory is gone", VerifyBounds{Fraction: 1}, func(_ *testing.T, h *shipped, _ *App) {
			h.move("vault", "away")
		}, failure.VaultMismatch, "is its disk mounted?", history.Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newShipped(t, "")
			a := h.open()
			defer a.Close()
			test.harm(t, h, a)
			docs, err := a.VerifyTargets(t.Context(), "", test.bounds)
			if len(docs) != 1 || failure.KindOf(err) != test.kind || (err != nil) != (test.text != "") {
				t.Fatalf("%+v, %v", docs, err)
			}
			doc := docs[0]
			if err != nil && (!strings.Contains(err.Error(), test.text) || doc.Error != err.Error()) {
				t.Errorf("%v, %q", err, doc.Error)
			}
			if doc.Target != "disk" || err == nil && (doc.VaultID == "" || !doc.SignerPinned || doc.Packs == 0 ||
				len(doc.Findings) != 0) {
				t.Errorf("%+v", doc)
			}
			if (len(doc.Findings) > 0) != (test.kind == failure.Invalid) {
				t.Errorf("findings: %v", doc.Findings)
			}
			run, found, err := a.history.LastRun(t.Context(), VerifyJob("disk"))
			if err != nil || !found || run.Outcome != test.outcome {
				t.Errorf("%+v, %v, %v", run, found, err)
			}
			checks, err := offsite.LoadChecks(a.Config.StateDir, "disk")
			if err != nil || len(checks.Findings) != len(doc.Findings) {
				t.Errorf("kept: %+v, %v", checks.Findings, err)
			}
		})
	}
}

// A target that does not exist is a slip of the fingers, and no run.
func TestVerifyOfNoTarget(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if _, err := a.VerifyTargets(t.Context(), "other", VerifyBounds{}); failure.KindOf(err) != failure.Usage {
		t.Errorf("%v", err)
	}
	// Before the first sync there is nothing to verify: a question that comes too early.
	_, err := a.VerifyTargets(t.Context(), "disk", VerifyBounds{})
	if failure.KindOf(err) != failure.NotFound || errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, found, err := a.history.LastRun(t.Context(), VerifyJob("disk")); err != nil || found {
		t.Errorf("it is remembered: %v", err)
	}
}

// A vault to which nothing was ever sent lacks nothing, whatever an older version found
// there; one that has lost all it held is damaged.
func TestVerifyOfAnEmptyVault(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T) (*house, *App)
		kind failure.Kind
		text string
		left int // findings
	}{
		{"nothing was ever sent", func(t *testing.T) (*house, *App) {
			h := newHouse(t, "")
			return h, h.open()
		}, failure.NotFound, "the vault holds no snapshot yet: nothing could be checked: take one, and send it: " +
			"atobackupd backup; atobackupd sync --target disk", 0},
		{"all was taken away", func(t *testing.T) (*house, *App) {
			h := newShipped(t, "")
			names, err := filepath.Glob(h.path("vault/snapshots/*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			return h.house, h.open()
		}, failure.Invalid, "disk: damaged: snapshots/", 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, a := test.make(t)
			defer a.Close()
			if test.left == 0 {
				if _, err := a.Sync(t.Context(), "", false); err != nil {
					t.Fatal(err)
				}
				h.write("state/targets/disk/checks.json", `{"findings": [{"object": "packs", "what": "it is missing"},
					{"object": "snapshots", "what": "it holds no snapshot"}]}`)
			}
			_, err := a.VerifyTargets(t.Context(), "", VerifyBounds{Fraction: 1})
			if failure.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v (kind %d)", err, failure.KindOf(err))
			}
			facts, _ := a.Facts(t.Context(), time.Now())
			if len(facts.Damage) != test.left {
				t.Errorf("%+v", facts.Damage)
			}
			for _, leg := range a.Report(t.Context(), time.Now()).Legs {
				if leg.Name == "offsite:disk" && test.left == 0 && leg.Message != "no snapshot is known to lie there yet" ||
					leg.Name == "verify:disk" && (leg.Level == health.LevelCritical) != (test.left > 0) {
					t.Errorf("%+v", leg)
				}
			}
		})
	}
}

// On the second machine, a verify by whoever knows the signer leaves a report.
func TestCheckLeavesAReport(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	signer, err := os.ReadFile(h.path("state/signing_key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for i, harm := range []func(){func() {}, func() {
		if err := harms["flipped"](h.path("vault/" + h.objects()["oldest packs/*.age"])); err != nil {
			t.Fatal(err)
		}
	}} {
		harm()
		v, err := OpenVaultDir(t.Context(), h.path("vault"), []string{strings.TrimSpace(string(signer))})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := v.Check(t.Context(), VerifyBounds{Fraction: 1}, "test", nil)
		v.Close()
		if failure.KindOf(err) != []failure.Kind{0, failure.Invalid}[i] || !doc.SignerPinned || len(doc.Warnings) > 0 {
			t.Errorf("%d: %+v, %v", i, doc, err)
		}
		reports, err := filepath.Glob(h.path("vault/reports/*"))
		if err != nil || len(reports) == 0 {
			t.Errorf("%d: %q, %v", i, reports, err)
		}
	}
	// The next sync of the host hears of it.
	a := h.open()
	defer a.Close()
	docs, err := a.Sync(t.Context(), "", false)
	if err == nil || !strings.Contains(docs[0].Error, "damaged: packs/") || len(docs[0].Mended) != 1 {
		t.Errorf("%+v, %v", docs, err)
	}
}
