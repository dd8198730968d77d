package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// rot changes one byte of a stored file.
func rot(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *house) backup(a *App) Taken {
	h.t.Helper()
	taken, err := a.Backup(h.t.Context(), snapshot.Daily, false, time.Time{})
	if err != nil {
		h.t.Fatal(err)
	}
	return taken
}

func TestScrubFindsRotAndRepairHealsIt(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	ctx := t.Context()
	a.Config.Backup.Share = "copy" // twins that rot apart
	one, two := h.backup(a), h.backup(a)
	if doc, err := a.Scrub(ctx, time.Now(), ScrubBounds{}); err != nil || len(doc.Checked) != 2 || doc.Left != 0 {
		t.Fatalf("%+v, %v", doc, err)
	}
	rot(t, filepath.Join(one.Path, snapshot.DBFile))
	first := time.Now().Truncate(time.Millisecond)
	var firstFailure time.Time
	// It goes on failing, also when a run of it looks at the others only.
	for i, bounds := range []ScrubBounds{{}, {}, {Bytes: 1}, {Time: time.Nanosecond}} {
		doc, err := a.Scrub(ctx, time.Now(), bounds)
		if failure.KindOf(err) != failure.Invalid || !slices.Equal(doc.Rotten, []snapshot.Stamp{one.Stamp}) ||
			!strings.Contains(err.Error(), "checksum_mismatch: "+snapshot.DBFile) ||
			!strings.Contains(err.Error(), "scrub --repair") {
			t.Fatalf("scrub %d: %+v, %v", i, doc, err)
		}
		if want := 2 - i/2; len(doc.Checked) != want || doc.Left != 2-want {
			t.Errorf("scrub %d: checked %d, %d left", i, len(doc.Checked), doc.Left)
		}
		s, err := a.Find(ctx, string(one.Stamp), time.Now())
		if err != nil || s.IsValid() || s.InvalidSince.Before(first) {
			t.Errorf("scrub %d: %+v, %v", i, s, err)
		}
		if i == 0 {
			firstFailure = s.InvalidSince
		}
		if !s.InvalidSince.Equal(firstFailure) {
			t.Errorf("scrub %d: invalid since %v, was %v", i, s.InvalidSince, firstFailure)
		}
	}
	status, err := a.Status(ctx, time.Now())
	if err != nil || status.Snapshots.Valid != 1 || status.Snapshots.Newest != string(two.Stamp) {
		t.Errorf("%+v, %v", status.Snapshots, err)
	}

	before := fsxtest.State(t, one.Path)
	doc, err := a.Repair(ctx, time.Now(), RepairRequest{})
	if failure.KindOf(err) != failure.Invalid || !strings.Contains(err.Error(), "--confirm") || len(doc.Repairs) != 1 ||
		len(doc.Repairs[0].Files) != 1 || doc.Repairs[0].Files[0].Source != "snapshot "+string(two.Stamp) {
		t.Fatalf("%+v, %v", doc, err)
	}
	if fsxtest.State(t, one.Path) != before {
		t.Error("it was changed unasked")
	}
	doc, err = a.Repair(ctx, time.Now(), RepairRequest{Confirm: true})
	if err != nil || len(doc.Repairs) != 1 || doc.Repairs[0].Result == nil || !doc.Repairs[0].Result.Valid {
		t.Fatalf("%+v, %v", doc, err)
	}
	if doc, err := a.Scrub(ctx, time.Now(), ScrubBounds{}); err != nil || len(doc.Rotten) != 0 {
		t.Errorf("afterwards: %+v, %v", doc, err)
	}
	if doc, err := a.Repair(ctx, time.Now(), RepairRequest{}); err != nil || len(doc.Repairs) != 0 {
		t.Errorf("nothing is left to do: %+v, %v", doc, err)
	}
}

// The bounds leave those that were checked last.
func TestScrubGoesOnWhereItStopped(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	var all, seen []snapshot.Stamp
	for range 3 {
		all = append(all, h.backup(a).Stamp)
	}
	for range 3 {
		doc, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{Bytes: 1})
		if err != nil || len(doc.Checked) != 1 || doc.Left != 2 {
			t.Fatalf("%+v, %v", doc, err)
		}
		seen = append(seen, snapshot.Stamp(doc.Checked[0].Stamp))
	}
	if !slices.Equal(seen, all) {
		t.Errorf("checked %v of %v", seen, all)
	}
}

// What has no twin is healed from the vault, the manifest included.
func TestRepairFromVault(t *testing.T) {
	h := newHouse(t, "")
	secret, recipient, err := crypt.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	h.write("key.txt", secret+"\n")
	a := h.open()
	defer a.Close()
	a.Config.Encryption.Recipients = []string{recipient}
	ctx := t.Context()
	taken := h.backup(a)
	if _, err := a.Sync(ctx, "disk", false); err != nil {
		t.Fatal(err)
	}
	for name, harm := range map[string]func(){
		"database": func() { rot(t, filepath.Join(taken.Path, snapshot.DBFile)) },
		"manifest": func() { rot(t, filepath.Join(taken.Path, snapshot.ManifestFile)) },
		"all of it": func() {
			for _, file := range []string{snapshot.ManifestFile, snapshot.MetadataFile} {
				if err := os.WriteFile(filepath.Join(taken.Path, file), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.RemoveAll(filepath.Join(taken.Path, "db")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		harm()
		if _, err := a.ValidateAll(ctx, time.Now(), nil); err != nil {
			t.Fatal(err)
		}
		if doc, err := a.Repair(ctx, time.Now(), RepairRequest{From: "disk"}); failure.KindOf(err) != failure.Invalid ||
			len(doc.Repairs) != 1 || doc.Repairs[0].Vault != "disk" || doc.Repairs[0].Error != "" {
			t.Errorf("%s, plan: %+v, %v", name, doc, err)
		}
		if doc, err := a.Repair(ctx, time.Now(), RepairRequest{Confirm: true}); failure.KindOf(err) != failure.Invalid {
			t.Errorf("%s, without a vault: %+v, %v", name, doc, err)
		}
		doc, err := a.Repair(ctx, time.Now(), RepairRequest{Stamp: taken.Stamp, From: "disk",
			Identity: h.path("key.txt"), Confirm: true})
		if err != nil || len(doc.Repairs) != 1 || doc.Repairs[0].Result == nil || !doc.Repairs[0].Result.Valid {
			t.Fatalf("%s: %+v, %v", name, doc, err)
		}
		s, err := a.Find(ctx, "latest", time.Now())
		if err != nil || s.Stamp != taken.Stamp {
			t.Errorf("%s: latest is %v, %v", name, s.Stamp, err)
		}
	}
	if _, err := a.Repair(ctx, time.Now(), RepairRequest{From: "disk",
		Confirm: true}); failure.KindOf(err) != failure.Usage {
		t.Errorf("without an identity: %v", err)
	}
	if left := fsxtest.Tree(t, h.path("backups/staging")); left != ".\n" {
		t.Errorf("left in staging: %s", left)
	}
}
