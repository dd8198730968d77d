package app

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// missingNow are the snapshots that are said to be gone, with what is said of each.
func missingNow(t *testing.T, a *App) []health.Damage {
	t.Helper()
	facts, _ := a.Facts(t.Context(), time.Now())
	return slices.DeleteFunc(facts.Damage, func(d health.Damage) bool { return !d.Gone })
}

// A snapshot of ours without its manifest is damaged to everybody: nothing says any
// more what its files should be, and describing it anew would hide that.
func TestUndescribed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	taken := h.backup(a)
	if err := os.Remove(a.store.Path(taken.Stamp) + "/" + snapshot.ManifestFile); err != nil {
		t.Fatal(err)
	}
	const says = "metadata_missing: atobackupd.json is gone"
	result, err := a.Validate(t.Context(), taken.Stamp)
	if err != nil || result.Valid || !slices.Contains(result.Errors, says) {
		t.Errorf("validate: %v %v, want %q", result.Errors, err, says)
	}
	scrubbed, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{})
	if failure.KindOf(err) != failure.Invalid || !slices.Equal(scrubbed.Rotten, []snapshot.Stamp{taken.Stamp}) {
		t.Errorf("scrub: %+v %v, want it found", scrubbed, err)
	}
	for what, do := range map[string]func() error{
		"pin": func() error { return a.Pin(t.Context(), taken.Stamp, true) },
		"drill": func() error {
			_, err := a.Drill(t.Context(), string(taken.Stamp), time.Time{}, "")
			return err
		},
	} {
		if err := do(); failure.KindOf(err) != failure.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", what, err, says)
		}
	}
}

// What was published is to be there until a prune of ours deletes it or an operator
// gives it up, whatever becomes of the history; what AtoCore made is not ours to miss.
func TestMissing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		harm func(h *house, a *App, stamp snapshot.Stamp) error
		gone bool
	}{
		{"as it is", func(*house, *App, snapshot.Stamp) error { return nil }, false},
		{"removed", func(_ *house, a *App, stamp snapshot.Stamp) error {
			return os.RemoveAll(a.store.Path(stamp))
		}, true},
		{"moved away", func(h *house, a *App, stamp snapshot.Stamp) error {
			return os.Rename(a.store.Path(stamp), h.path("backups/staging/"+string(stamp)))
		}, true},
		{"emptied", func(_ *house, a *App, stamp snapshot.Stamp) error {
			dir := a.store.Path(stamp)
			return os.WriteFile(dir+"/x", nil, 0o600) // and then all else is removed
		}, true},
		{"removed with the history", func(h *house, a *App, stamp snapshot.Stamp) error {
			h.remove("state/history.db")
			return os.RemoveAll(a.store.Path(stamp))
		}, true},
		{"all of them", func(h *house, _ *App, _ snapshot.Stamp) error {
			h.remove("backups/snapshots")
			return nil
		}, true},
		{"deleted by a prune", func(_ *house, a *App, stamp snapshot.Stamp) error {
			return a.deletePublished(t.Context(), stamp, nil)
		}, false},
		{"accepted", func(_ *house, a *App, stamp snapshot.Stamp) error {
			if err := os.RemoveAll(a.store.Path(stamp)); err != nil {
				return err
			}
			return a.Accept(t.Context(), stamp)
		}, false},
		{"taken for right with the directory", func(_ *house, a *App, stamp snapshot.Stamp) error {
			if err := os.RemoveAll(a.store.Path(stamp)); err != nil {
				return err
			}
			return a.AcceptBackupDir(t.Context())
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "")
			a := h.open()
			defer a.Close()
			stamp := h.backup(a).Stamp
			if err := test.harm(h, a, stamp); err != nil {
				t.Fatal(err)
			}
			if test.name == "emptied" {
				for _, name := range []string{snapshot.ManifestFile, snapshot.MetadataFile, "db"} {
					h.remove("backups/snapshots/" + string(stamp) + "/" + name)
				}
			}
			again := h.open() // as the next command does
			defer again.Close()
			for who, asked := range map[string]*App{"the process that took it": a, "the next one": again} {
				if gone := missingNow(t, asked); (len(gone) > 0) != test.gone || test.gone &&
					gone[0].Subject != string(stamp) {
					t.Errorf("%s: gone are %+v", who, gone)
				}
			}
			if err := a.Accept(t.Context(), stamp); (err == nil) != test.gone {
				t.Errorf("accept: %v", err)
			}
			if gone := missingNow(t, again); len(gone) > 0 {
				t.Errorf("after it was accepted: %+v", gone)
			}
		})
	}
}

// A list that cannot be read is damage, and is left as it is until somebody says what
// is right.
func TestUnreadablePublished(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	stamp := h.backup(a).Stamp
	h.write("state/published.json", "no JSON")
	h.backup(a)
	facts, _ := a.Facts(t.Context(), time.Now())
	if len(facts.Damage) != 1 || facts.Damage[0].Subject != a.publishedPath() ||
		!strings.Contains(facts.Damage[0].Hint, "accept backup-dir") {
		t.Errorf("%+v", facts.Damage)
	}
	if err := a.Accept(t.Context(), stamp); failure.KindOf(err) == failure.Usage || err == nil {
		t.Errorf("accept: %v", err)
	}
	if err := a.AcceptBackupDir(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, err := a.published(); err != nil || len(p.Snapshots) != 2 || p.Snapshots[0] != stamp {
		t.Errorf("%+v, %v", p, err)
	}
	if old, err := os.ReadFile(a.publishedPath() + ".unreadable"); err != nil || string(old) != "no JSON" {
		t.Errorf("%q, %v", old, err)
	}
}

// How damage ended is remembered of the newest, and who is not configured is named.
func TestSettled(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	err := a.changePublished(t.Context(), func(p *published) {
		for i := range settledMost + 5 {
			p.settle(acceptedAsLost, snapshot.Stamp(fmt.Sprintf("202601%02dT%06dZ", i%28+1, i)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := a.settled(); len(all) != settledMost || all[0].How != acceptedAsLost {
		t.Errorf("%d: %+v", len(all), all[0])
	}
	if _, err := h.mustOpen(a).ForgetSnapshot(t.Context(), string(h.stamps[0])); err != nil {
		t.Fatal(err)
	}
	find := func(subject, how string) bool {
		return slices.Contains(a.settled(), health.Settled{Subject: subject, How: how})
	}
	if !find("needed by "+string(h.stamps[0]), "taken out of disk") {
		t.Errorf("%+v", a.settled())
	}
	a.Config.Offsite = nil
	if !find("disk (", health.Unwatched) {
		t.Errorf("%+v", a.settled())
	}
}

// What is advised about damage is what can be done about it.
func TestRemedies(t *testing.T) {
	t.Parallel()
	file := func(path, sum string) snapshot.File {
		return snapshot.File{Path: path, Type: snapshot.TypeFile, SHA256: sum, Size: 3}
	}
	one := func(stamp snapshot.Stamp, sum string, valid bool) snapshot.Snapshot {
		dir := t.TempDir()
		if err := os.MkdirAll(dir+"/db", 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, dir+"/"+snapshot.DBFile, "abc")
		return snapshot.Snapshot{Stamp: stamp, Path: dir, Valid: &valid, Manifest: &snapshot.Manifest{
			Stamp: stamp, Files: []snapshot.File{file(snapshot.DBFile, sum), file("config/x", "other")}}}
	}
	damaged := one("20260401T000000Z", "1", false)
	damaged.Errors = []string{"checksum_mismatch: " + snapshot.DBFile}
	twin := one("20260402T000000Z", "1", true)
	linked := one("20260403T000000Z", "1", true)
	if err := os.Remove(linked.Path + "/" + snapshot.DBFile); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(damaged.Path+"/"+snapshot.DBFile, linked.Path+"/"+snapshot.DBFile); err != nil {
		t.Fatal(err)
	}
	rotten := one("20260404T000000Z", "1", false)
	unnamed, undescribed, foreign, full := damaged, damaged, damaged, damaged
	unnamed.Errors = []string{"chroma_log_gap: 3 to 5"}
	undescribed.Manifest = nil
	foreign.Manifest, foreign.Foreign = nil, true
	full.Full = true
	renamed := damaged
	renamed.Manifest = &snapshot.Manifest{Stamp: "20250101T000000Z"}
	a := &App{Config: config.Default()}
	for _, test := range []struct {
		name    string
		damaged snapshot.Snapshot
		others  []snapshot.Snapshot
		held    bool
		want    string
	}{
		{"a twin", damaged, []snapshot.Snapshot{twin}, true, "atobackupd scrub --repair"},
		{"the same file under another name", damaged, []snapshot.Snapshot{linked}, false, "no good copy"},
		{"a twin that is damaged itself", damaged, []snapshot.Snapshot{rotten}, false, "no good copy"},
		{"a vault", damaged, []snapshot.Snapshot{linked}, true,
			"atobackupd scrub --repair 20260401T000000Z --from disk --identity FILE"},
		{"nothing", damaged, nil, false, "take a new snapshot: `atobackupd backup`; "},
		{"nothing, with Chroma", full, nil, false, "`atobackupd backup --chroma`"},
		{"who knows what", unnamed, nil, false, "see whether something would heal it"},
		{"no manifest", undescribed, nil, false, "atobackupd prune"},
		{"another's manifest", renamed, []snapshot.Snapshot{twin}, true, "give it its name again"},
		{"AtoCore's own", foreign, nil, false, "atobackupd validate 20260401T000000Z"},
	} {
		r := remedies{app: a, list: append(test.others, test.damaged), held: map[snapshot.Stamp][]string{}}
		if test.held {
			r.held[damaged.Stamp] = []string{"disk"}
		}
		if got := r.ofSnapshot(test.damaged); !strings.Contains(got, test.want) ||
			test.want == "atobackupd scrub --repair" && got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	r := remedies{app: a, list: []snapshot.Snapshot{damaged, twin}}
	for _, test := range []struct {
		name   string
		stamp  snapshot.Stamp
		append bool
		want   string
	}{
		{"here", twin.Stamp, false, "it is sent anew by: atobackupd sync --target disk"},
		{"damaged here", damaged.Stamp, false, "atobackupd vault forget 20260401T000000Z --target disk"},
		{"not here", "20250101T000000Z", false, "atobackupd vault forget 20250101T000000Z --target disk"},
		{"not here, and append-only", "20250101T000000Z", true, "on the second machine: `atobackupd vault forget "},
	} {
		got := r.ofObject(config.Target{Name: "disk", AppendOnly: test.append},
			offsite.Finding{Stamps: []snapshot.Stamp{test.stamp}})
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
