package app

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// A finding that stands keeps the time at which it was found, and takes the
// newest words.
func TestFindingsAdd(t *testing.T) {
	found := findings{}
	found.add("a", Finding{What: []string{"torn"}, By: "scrub"})
	first := found["a"].Found
	if first.IsZero() {
		t.Fatal("it has no time")
	}
	found["a"] = Finding{What: found["a"].What, By: "scrub", Found: first.Add(-time.Hour)}
	found.add("a", Finding{What: []string{"torn", "gone"}, By: "restore"})
	found.add("b", Finding{What: []string{"gone"}, By: "drill"})
	if f := found["a"]; !f.Found.Equal(first.Add(-time.Hour)) || len(f.What) != 2 || f.By != "restore" {
		t.Errorf("%+v", f)
	}
	if len(found) != 2 || found["b"].Found.IsZero() {
		t.Errorf("%+v", found)
	}
}

// How a finding marks a snapshot of the catalog.
func TestOverlayFinding(t *testing.T) {
	found := findings{string(snapshot.StampOf(noon)): {What: []string{"torn"}, Found: noon.Add(time.Hour)}}
	invalidSince := func(at time.Time) snapshot.Snapshot {
		s := taken(0, snapshot.Daily)
		s.InvalidSince = at
		return s
	}
	for _, test := range []struct {
		name  string
		s     snapshot.Snapshot
		valid bool
		since time.Time
	}{
		{"the one that is meant", taken(0, snapshot.Daily), false, noon.Add(time.Hour)},
		{"another one", taken(1, snapshot.Daily), true, time.Time{}},
		{"known to be bad for longer", invalidSince(noon), false, noon},
		{"known to be bad later", invalidSince(noon.Add(2 * time.Hour)), false, noon.Add(time.Hour)},
	} {
		overlayFinding(&test.s, found)
		if test.s.IsValid() != test.valid || !test.s.InvalidSince.Equal(test.since) ||
			!test.valid && !slices.Equal(test.s.Errors, []string{"torn"}) {
			t.Errorf("%s: %+v", test.name, test.s)
		}
	}
}

// A finding survives the process and the history, and goes only when the same
// snapshot was read as a whole and is clean.
func TestFindingsStandUntilACleanCheck(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	a.Config.Backup.Share = "copy"
	one, two := h.backup(a), h.backup(a)
	whole, err := os.ReadFile(one.Path + "/" + snapshot.DBFile)
	if err != nil {
		t.Fatal(err)
	}
	rot(t, one.Path+"/"+snapshot.DBFile)
	valid := func(a *App, stamp snapshot.Stamp) bool {
		t.Helper()
		s, err := a.Find(t.Context(), string(stamp), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return s.IsValid()
	}
	if result, err := a.Validate(t.Context(), one.Stamp); err != nil || result.Valid {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"history.db", "history.db-wal", "history.db-shm"} {
		if err := os.Remove(h.path("state/" + name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	a = h.open()
	defer a.Close()
	if valid(a, one.Stamp) || !valid(a, two.Stamp) {
		t.Error("the loss of the history made it whole")
	}
	// The other one is checked: that says nothing of this.
	if result, err := a.Validate(t.Context(), two.Stamp); err != nil || !result.Valid || valid(a, one.Stamp) {
		t.Errorf("%+v, %v", result, err)
	}
	put(t, one.Path+"/"+snapshot.DBFile, string(whole))
	if valid(a, one.Stamp) {
		t.Error("nobody has read it again")
	}
	if result, err := a.Validate(t.Context(), one.Stamp); err != nil || !result.Valid || !valid(a, one.Stamp) {
		t.Errorf("after a clean check: %+v, %v", result, err)
	}
	if found, err := a.findings(); err != nil || len(found) != 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

// Whoever only looks writes nothing, not even what he finds.
func TestFindingsOfAReader(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Options.ReadOnly = true
	a.noteValidation(t.Context(), "20260407T060000Z", false, []string{"torn"}, "validate")
	if _, err := os.Lstat(h.path("backups/" + findingsFile)); err == nil {
		t.Error("it was written")
	}
}

// Several processes find things at once; what one found the other keeps. What
// changes nothing is not written again.
func TestChangeFindings(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a, b := h.open(), h.open()
	defer a.Close()
	defer b.Close()
	var group sync.WaitGroup
	for i, app := range []*App{a, b, a, b} {
		group.Go(func() {
			app.noteValidation(t.Context(), snapshot.StampOf(noon.Add(time.Duration(i)*time.Hour)), false,
				[]string{"torn"}, "scrub")
		})
	}
	group.Wait()
	if found, err := a.findings(); err != nil || len(found) != 4 {
		t.Fatalf("%v, %v", found, err)
	}
	before, err := os.Stat(a.findingsPath())
	if err != nil {
		t.Fatal(err)
	}
	a.noteValidation(t.Context(), "20250101T000000Z", true, nil, "validate")
	after, err := os.Stat(a.findingsPath())
	if err != nil || !os.SameFile(before, after) || before.Mode().Perm() != 0o600 {
		t.Errorf("written anew, or of mode %v: %v", before.Mode(), err)
	}
	// What was found is written down also where the work was cut short.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.noteValidation(ctx, "20250102T000000Z", false, []string{"gone"}, "scrub")
	if found, err := a.findings(); err != nil || len(found) != 5 {
		t.Errorf("%v, %v", found, err)
	}
}

// A file that cannot be read is damage of its own; the next finding takes its
// place, and it stays beside.
func TestUnreadableFindings(t *testing.T) {
	t.Parallel()
	h, a, stamp := newOpened(t, "")
	h.write("backups/"+findingsFile, "no JSON")
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	damage := a.damage(a.remedies(t.Context(), list))
	if len(damage) != 1 || damage[0].Subject != a.findingsPath() || damage[0].Hint != "atobackupd scrub --all" {
		t.Errorf("%+v", damage)
	}
	if s, err := a.Find(t.Context(), string(stamp), time.Now()); err != nil || !s.IsValid() {
		t.Errorf("it marks a snapshot: %+v, %v", s, err)
	}
	a.noteValidation(t.Context(), stamp, false, []string{"torn"}, "scrub")
	if found, err := a.findings(); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if old, err := os.ReadFile(a.findingsPath() + ".unreadable"); err != nil || string(old) != "no JSON" {
		t.Errorf("%q, %v", old, err)
	}
}

// damage names what is damaged here and there, each with what to run.
func TestDamage(t *testing.T) {
	t.Parallel()
	h, a, stamp := newOpened(t, "")
	h.plant(time.Now().Add(-2*time.Hour), bornInvalid) // no damage: it was never more
	a.noteValidation(t.Context(), stamp, false, []string{"torn", "gone"}, "drill")
	if err := os.Symlink("/elsewhere", h.path("backups/snapshots/20260101T000000Z")); err != nil {
		t.Fatal(err)
	}
	h.write("backups/snapshots/20260102T000000Z", "a file")
	h.write("backups/snapshots/notes.txt", "no stamp")
	checks, err := offsite.LoadChecks(a.Config.StateDir, "disk")
	if err != nil {
		t.Fatal(err)
	}
	checks.Add([]offsite.Finding{{Object: "packs/ab.age", What: "missing", Stamps: []snapshot.Stamp{stamp}}}, "sync",
		noon)
	if err := checks.Save(); err != nil {
		t.Fatal(err)
	}
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := a.damage(a.remedies(t.Context(), list))
	want := []health.Damage{
		{Subject: string(stamp), What: "torn", Hint: "atobackupd scrub --repair"},
		{Subject: "20260101T000000Z", What: "it is no directory", Hint: "ls -l "},
		{Subject: "20260102T000000Z", What: "it is no directory", Hint: "ls -l "},
		{Subject: "disk", What: "packs/ab.age: missing", Hint: "is not here any more to be sent anew", Since: noon},
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if got[i].Subject != w.Subject || !strings.Contains(got[i].What, w.What) ||
			!strings.Contains(got[i].Hint, w.Hint) || !w.Since.IsZero() && !got[i].Since.Equal(w.Since) {
			t.Errorf("%d: %+v, want %+v", i, got[i], w)
		}
	}
	if got[0].Since.IsZero() || !strings.Contains(got[0].What, "gone") {
		t.Errorf("%+v", got[0])
	}
	h.write("state/targets/disk/checks.json", "no JSON")
	if got = a.damage(a.remedies(t.Context(), nil)); len(got) != 3 || got[2].Subject != "disk" || got[2].What == "" {
		t.Errorf("checks that cannot be read: %+v", got)
	}
}

// One file with several names rotted: it is damaged in every snapshot that holds it,
// whoever found it and in whichever, and healing one of them heals that one.
func TestFindingsOfASharedFile(t *testing.T) {
	for _, test := range []struct {
		name string
		find func(t *testing.T, h *house, a *App, stamp snapshot.Stamp)
	}{
		{"a validation", func(t *testing.T, h *house, a *App, stamp snapshot.Stamp) {
			if result, err := a.Validate(t.Context(), stamp); err != nil || result.Valid {
				t.Fatalf("%+v, %v", result, err)
			}
			wantDamaged(t, a, shared(t, a)...)
		}},
		{"a scrub that stops after one", func(t *testing.T, h *house, a *App, stamp snapshot.Stamp) {
			if _, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{Bytes: 1}); err == nil {
				t.Fatal("it found nothing")
			}
			wantDamaged(t, a, shared(t, a)...)
		}},
		{"a repair that finds it itself", func(*testing.T, *house, *App, snapshot.Stamp) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "")
			h.write("data/registry.json", `{"projects": [1, 2]}`)
			a := h.open()
			defer a.Close()
			a.Config.AtoCore.RegistryPath = h.path("data/registry.json")
			a.Config.Backup.Share = "hardlink"
			taken := []Taken{h.backup(a), h.backup(a), h.backup(a)}
			a.Config.Backup.Share = "copy"
			h.backup(a) // whence they are healed
			rot(t, taken[0].Path+"/"+snapshot.RegistryFile)
			test.find(t, h, a, taken[0].Stamp)
			if doc, err := a.Repair(t.Context(), time.Now(), RepairRequest{Stamp: taken[0].Stamp,
				Confirm: true}); failure.KindOf(err) != failure.Invalid || len(doc.Repairs) != 1 ||
				doc.Repairs[0].Result == nil || !doc.Repairs[0].Result.Valid {
				t.Fatalf("%+v, %v", doc, err)
			}
			wantDamaged(t, a, taken[1].Stamp, taken[2].Stamp)
			if _, err := a.Repair(t.Context(), time.Now(), RepairRequest{Confirm: true}); err != nil {
				t.Fatal(err)
			}
			wantDamaged(t, a)
		})
	}
}

// shared returns the snapshots but the newest, which holds files of its own.
func shared(t *testing.T, a *App) (stamps []snapshot.Stamp) {
	t.Helper()
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	for _, s := range list[:len(list)-1] {
		stamps = append(stamps, s.Stamp)
	}
	return stamps
}

// wantDamaged checks of which snapshots the status says that they are damaged.
func wantDamaged(t *testing.T, a *App, want ...snapshot.Stamp) {
	t.Helper()
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var got []snapshot.Stamp
	for _, d := range a.damage(a.remedies(t.Context(), list)) {
		got = append(got, snapshot.Stamp(d.Subject))
	}
	if !slices.Equal(got, want) {
		t.Errorf("damaged: %v, want %v", got, want)
	}
	if told := hasCondition(a.Report(t.Context(), time.Now()).Conditions, "damaged"); told != (len(want) > 0) {
		t.Errorf("the condition stands: %v", told)
	}
}

// What was found in a shared file ends for all that hold it once one of them is whole
// again: the finding was about that file.
func TestFindingsOfASharedFileEnd(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Config.Backup.Share = "hardlink"
	taken := []Taken{h.backup(a), h.backup(a)}
	path := taken[0].Path + "/" + snapshot.DBFile
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rot(t, path)
	validate := func() {
		t.Helper()
		if _, err := a.Validate(t.Context(), taken[0].Stamp); err != nil {
			t.Fatal(err)
		}
	}
	validate()
	wantDamaged(t, a, taken[0].Stamp, taken[1].Stamp)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	validate()
	wantDamaged(t, a)
}
