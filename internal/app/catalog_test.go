package app

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// manual takes a snapshot for a person.
func (h *house) manual(a *App) snapshot.Stamp {
	h.t.Helper()
	taken, err := a.Backup(h.t.Context(), snapshot.Manual, false, time.Time{})
	if err != nil {
		h.t.Fatal(err)
	}
	return taken.Stamp
}

// rot flips a byte in a stored database.
func (h *house) rot(stamp snapshot.Stamp) {
	h.t.Helper()
	path := h.path("backups/snapshots/" + string(stamp) + "/" + snapshot.DBFile)
	data, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// What a name means: a stamp is that snapshot, whatever its worth, and "latest" is
// the newest that counts.
func TestFind(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	find := func(name string) (snapshot.Snapshot, error) { return a.Find(t.Context(), name, time.Now()) }
	if _, err := find("latest"); failure.KindOf(err) != failure.NotFound ||
		!strings.Contains(err.Error(), "atobackupd backup") {
		t.Errorf("there is none: %v", err)
	}
	first, second := h.manual(a), h.manual(a)
	for _, test := range []struct {
		name, why string
		change    func()
		want      snapshot.Stamp
	}{
		{"latest", "the newest", func() {}, second},
		{"latest", "AtoCore's own, never validated, counts for nothing", func() {
			h.madeByAtoCore(time.Now().Add(time.Second), false)
		}, second},
		{"latest", "one of the year 2040 counts for nothing", func() {
			h.madeByAtoCore(time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), false)
		}, second},
		{"latest", "one that was found damaged counts for nothing", func() {
			h.rot(second)
			if r, err := a.Validate(t.Context(), second); err != nil || r.Valid {
				t.Fatalf("%v, %v", r, err)
			}
		}, first},
		{string(second), "by its stamp", func() {}, second},
	} {
		test.change()
		if got, err := find(test.name); err != nil || got.Stamp != test.want {
			t.Errorf("%s (%s): %s, %v; want %s", test.name, test.why, got.Stamp, err, test.want)
		}
	}
	if s, err := find(string(second)); err != nil || s.IsValid() || len(s.Errors) == 0 {
		t.Errorf("the damaged one by its stamp: valid %v, %q, %v", s.IsValid(), s.Errors, err)
	}
	// The finding outlives the history.
	if err := a.history.ForgetValidation(t.Context(), string(second)); err != nil {
		t.Fatal(err)
	}
	if s, err := find(string(second)); err != nil || s.IsValid() {
		t.Errorf("the history forgot, and it is valid: %v, %v", s.IsValid(), err)
	}
	for name, kind := range map[string]failure.Kind{
		"20000101T000000Z": failure.NotFound, "yesterday": failure.Usage, "": failure.Usage, "../x": failure.Usage,
		"20261301T000000Z": failure.Usage,
	} {
		if _, err := find(name); failure.KindOf(err) != kind {
			t.Errorf("%q: %v, want kind %v", name, err, kind)
		}
	}
}

// The document of `list` says of each snapshot what the manifest and later checks
// say of it.
func TestList(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if doc, err := a.List(t.Context(), time.Now()); err != nil || doc.Backups == nil || len(doc.Backups) != 0 {
		t.Errorf("an empty one: %+v, %v", doc, err)
	}
	first := h.manual(a)
	taken, err := a.BackupWithNote(t.Context(), snapshot.Manual, false, "before the upgrade")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sync(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	third := h.manual(a)
	h.rot(third)
	if _, err := a.Validate(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	if err := a.Pin(t.Context(), first, true); err != nil {
		t.Fatal(err)
	}
	foreign := h.madeByAtoCore(time.Now().Add(5*time.Second), false)
	doc, err := a.List(t.Context(), time.Now())
	if err != nil || len(doc.Backups) != 4 || doc.BackupDir != h.path("backups") {
		t.Fatalf("%+v, %v", doc, err)
	}
	for i, want := range []struct {
		stamp        snapshot.Stamp
		valid        string
		pinned       bool
		note, target string
	}{
		{first, "true", true, "", "disk"}, {taken.Stamp, "true", false, "before the upgrade", "disk"},
		{third, "false", false, "", ""}, {foreign, "null", false, "", ""},
	} {
		got := doc.Backups[i]
		valid, _ := json.Marshal(got.Valid)
		if got.Stamp != want.stamp || string(valid) != want.valid || got.Pinned != want.pinned ||
			got.Note != want.note ||
			strings.Join(got.Offsite, ",") != want.target || got.Suspect == nil || got.Bytes == 0 {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
	if err := a.Pin(t.Context(), first, false); err != nil {
		t.Fatal(err)
	}
	if s, err := a.store.Get(first); err != nil || s.Pinned {
		t.Errorf("unpinned, and pinned: %v", err)
	}
	for stamp, kind := range map[snapshot.Stamp]failure.Kind{"20000101T000000Z": failure.NotFound} {
		if err := a.Pin(t.Context(), stamp, true); failure.KindOf(err) != kind {
			t.Errorf("pin %s: %v", stamp, err)
		}
	}
}

// Which recorded runs a question chooses.
func TestRuns(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for i, r := range []struct {
		job     string
		outcome history.Outcome
	}{
		{"backup", history.OK}, {"backup", history.Failed}, {"sync:disk", history.Skipped},
		{"sync:laptop", history.Failed},
		{"prune", history.TimedOut}, {DaemonJob, history.OK}, {DigestJob, history.Interrupted},
	} {
		at := noon.Add(time.Duration(i) * time.Hour)
		id, err := a.history.Begin(t.Context(), history.Run{Job: r.job, StartedAt: at})
		if err == nil {
			err = a.history.Finish(t.Context(), history.Run{ID: id, FinishedAt: at, Outcome: r.outcome})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		filter RunFilter
		want   string
	}{
		{"all, but for the daemon's own", RunFilter{}, "backup backup sync:disk sync:laptop prune digest"},
		{"of one job", RunFilter{Job: "backup"}, "backup backup"},
		{"of one job of all targets", RunFilter{Job: "sync"}, "sync:disk sync:laptop"},
		{"of one job of one target", RunFilter{Job: "sync:disk"}, "sync:disk"},
		{"that did not go well; skipped is no failure", RunFilter{Failed: true}, "backup sync:laptop prune digest"},
		{"of the last hours", RunFilter{Since: noon.Add(4 * time.Hour)}, "prune digest"},
		{"all at once", RunFilter{Job: "sync", Failed: true, Since: noon.Add(time.Hour)}, "sync:laptop"},
		{"none", RunFilter{Job: "restore"}, ""},
	} {
		runs, err := a.Runs(t.Context(), test.filter)
		var jobs []string
		for _, run := range runs {
			jobs = append(jobs, run.Job)
		}
		if got := strings.Join(jobs, " "); err != nil || got != test.want || runs == nil {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

// The schedule names each job with its next slots and how it went last, the digest
// too.
func TestSchedule(t *testing.T) {
	h := newHouse(t, "[notify]\ndigest = \"0 8 * * 1\"\n")
	a := h.open()
	defer a.Close()
	h.manual(a)
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, noon); err != nil {
		t.Fatal(err)
	}
	doc, err := a.Schedule(t.Context(), noon)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []string
	for _, j := range doc.Jobs {
		jobs = append(jobs, j.Job)
		if len(j.Next) != 3 || !slices.IsSortedFunc(j.Next, time.Time.Compare) || !j.Next[0].After(noon) {
			t.Errorf("%s: next %v", j.Job, j.Next)
		}
		if ran := j.Job == "daily"; ran != (j.LastOutcome == "ok") {
			t.Errorf("%s: last outcome %q", j.Job, j.LastOutcome)
		}
	}
	if got := strings.Join(jobs, " "); got != "daily verify digest" {
		t.Errorf("jobs %q", got)
	}
	next, err := a.NextSlots(t.Context(), noon)
	if want := time.Date(2026, 4, 13, 8, 0, 0, 0, time.UTC); err != nil || !next[DigestJob].Equal(want) {
		t.Errorf("the digest comes at %v, %v", next[DigestJob], err)
	}
}

// A finding stands until the same snapshot was checked and is clean, whoever finds
// it, and garbage in their file is replaced and kept beside.
func TestFindings(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	note := func(stamp string, valid bool, what ...string) {
		t.Helper()
		a.noteValidation(t.Context(), snapshot.Stamp(stamp), valid, what, "scrub")
	}
	find := func() findings {
		t.Helper()
		found, err := a.findings()
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	note("a", true)
	if _, err := os.Stat(a.findingsPath()); err == nil {
		t.Error("a clean check makes a file")
	}
	note("a", false, "checksum_mismatch")
	since := find()["a"].Found
	note("b", false, "db_not_sqlite")
	note("a", false, "file_missing", "checksum_mismatch")
	if f := find(); len(f) != 2 || !f["a"].Found.Equal(since) || len(f["a"].What) != 2 {
		t.Errorf("found again: %+v", f)
	}
	note("b", true)
	if f := find(); len(f) != 1 || f["a"].By != "scrub" {
		t.Errorf("one is clean: %+v", f)
	}
	put(t, a.findingsPath(), "{")
	if _, err := a.findings(); err == nil || !strings.Contains(err.Error(), "scrub --all") {
		t.Errorf("garbage: %v", err)
	}
	if d := a.damage(nil); len(d) != 1 || !strings.Contains(d[0].Subject, findingsFile) {
		t.Errorf("garbage is no damage: %+v", d)
	}
	note("c", false, "x")
	if f := find(); len(f) != 1 || len(f["c"].What) != 1 {
		t.Errorf("after garbage: %+v", f)
	}
	if data, err := os.ReadFile(a.findingsPath() + ".unreadable"); err != nil || string(data) != "{" {
		t.Errorf("the garbage was not kept: %q, %v", data, err)
	}
	a.Options.ReadOnly = true
	note("c", true)
	if f := find(); len(f) != 1 {
		t.Errorf("who only looks has changed it: %+v", f)
	}
}

// A snapshot that was taken invalid says so itself, and is no damage.
func TestIsDamaged(t *testing.T) {
	yes, no := true, false
	well := &snapshot.Manifest{}
	well.Validation.Valid = true
	born := &snapshot.Manifest{}
	for _, test := range []struct {
		name string
		s    snapshot.Snapshot
		want bool
	}{
		{"valid", snapshot.Snapshot{Valid: &yes, Manifest: well}, false},
		{"never validated", snapshot.Snapshot{}, false},
		{"was valid once", snapshot.Snapshot{Valid: &no, Manifest: well}, true},
		{"AtoCore's, broken", snapshot.Snapshot{Valid: &no}, true},
		{"taken invalid before a restore", snapshot.Snapshot{Valid: &no, Manifest: born}, false},
	} {
		if got := isDamaged(test.s); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// The counts of status are of what lies here, and its newest are those that count.
func TestSumUp(t *testing.T) {
	snap := func(day int, full, valid bool) snapshot.Snapshot {
		s := taken(day, snapshot.Daily)
		s.Full, s.Valid, s.Bytes = full, &valid, 10
		return s
	}
	ahead := snap(3, true, true)
	for _, test := range []struct {
		name string
		list []snapshot.Snapshot
		want health.SnapshotsStatus
	}{
		{"none", nil, health.SnapshotsStatus{}},
		{"one", []snapshot.Snapshot{snap(-1, false, true)},
			health.SnapshotsStatus{Count: 1, Valid: 1, Bytes: 10, Newest: "20260406T120000Z"}},
		{"a broken one, and one of the future", []snapshot.Snapshot{snap(-2, true, true), snap(-1, true, false), ahead},
			health.SnapshotsStatus{Count: 3, Valid: 2, Full: 2, Bytes: 30, Newest: "20260405T120000Z",
				NewestFull: "20260405T120000Z"}},
		{"the newest is bare", []snapshot.Snapshot{snap(-2, true, true), snap(-1, false, true)},
			health.SnapshotsStatus{Count: 2, Valid: 2, Full: 1, Bytes: 20, Newest: "20260406T120000Z",
				NewestFull: "20260405T120000Z"}},
	} {
		if got := sumUp(test.list, noon); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}
