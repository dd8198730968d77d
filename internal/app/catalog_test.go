package app

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
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
	a.Config.Backup.Share = "copy" // one of them rots alone
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
	a.Config.Backup.Share = "copy" // one of them rots alone
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
	var err error
	for i, r := range []struct {
		job     string
		outcome history.Outcome
	}{
		{"backup", history.OK}, {"backup", history.Failed}, {"sync:disk", history.Skipped},
		{"sync:laptop", history.Failed},
		{"prune", history.TimedOut}, {DaemonJob, history.OK}, {DigestJob, history.Interrupted},
	} {
		at := noon.Add(time.Duration(i) * time.Hour)
		run := history.Run{Job: r.job, StartedAt: at, FinishedAt: at, Outcome: r.outcome}
		if run.ID, err = a.history.Begin(t.Context(), run); err == nil {
			err = a.history.Finish(t.Context(), run)
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
	if d := a.damage(a.remedies(t.Context(), nil)); len(d) != 1 || !strings.Contains(d[0].Subject, findingsFile) {
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

// plant copies the oldest snapshot to another point in time and changes what its
// manifest says.
func (h *house) plant(at time.Time, change func(*snapshot.Manifest)) snapshot.Stamp {
	h.t.Helper()
	list, err := filepath.Glob(h.path("backups/snapshots/*"))
	if err != nil || len(list) == 0 {
		h.t.Fatalf("there is nothing to copy: %v", err)
	}
	stamp := snapshot.StampOf(at)
	dir := h.path("backups/snapshots/" + string(stamp))
	if out, err := exec.Command("cp", "-a", list[0], dir).CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	h.rewrite(stamp, func(m *snapshot.Manifest) {
		m.Stamp, m.Kind, m.Pinned, m.Note, m.Suspect, m.AcceptedAt = stamp, snapshot.Daily, false, "", nil, nil
		m.Validation.Valid, m.Validation.Errors = true, []string{}
		if change != nil {
			change(m)
		}
	})
	return stamp
}

// rewrite changes what the manifest of a snapshot says.
func (h *house) rewrite(stamp snapshot.Stamp, change func(*snapshot.Manifest)) {
	h.t.Helper()
	dir := h.path("backups/snapshots/" + string(stamp))
	m, err := snapshot.ReadManifest(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	change(m)
	data, err := json.Marshal(m)
	if err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(dir, snapshot.ManifestFile)
	if err := os.Remove(path); err != nil {
		h.t.Fatal(err)
	}
	put(h.t, path, string(data))
}

// opened is an installation that is open, with one snapshot of an hour ago alone.
func newOpened(t *testing.T, more string) (*house, *App, snapshot.Stamp) {
	t.Helper()
	h := newHouse(t, more)
	a := h.open()
	t.Cleanup(func() { a.Close() })
	taken := h.backup(a)
	stamp := h.plant(time.Now().Add(-time.Hour), nil)
	if err := os.RemoveAll(taken.Path); err != nil {
		t.Fatal(err)
	}
	if err := a.acceptDir(t.Context()); err != nil { // it was never there
		t.Fatal(err)
	}
	return h, a, stamp
}

// kindOf makes a manifest that of a snapshot of another kind.
func kindOf(kind snapshot.Kind) func(*snapshot.Manifest) {
	return func(m *snapshot.Manifest) { m.Kind = kind }
}

func bornInvalid(m *snapshot.Manifest) {
	m.Validation.Valid, m.Validation.Errors = false, []string{"integrity_check_failed"}
}

// The document of list: oldest first, with every field that the contract names.
func TestListFields(t *testing.T) {
	t.Parallel()
	h, a, middle := newOpened(t, "")
	now := time.Now()
	oldest := h.plant(now.Add(-48*time.Hour), func(m *snapshot.Manifest) {
		m.Kind, m.Pinned, m.Note = snapshot.Manual, true, "before the upgrade"
	})
	newest := h.plant(now.Add(-time.Minute), func(m *snapshot.Manifest) { m.Suspect = []string{"db_shrunk"} })
	state, err := offsite.LoadState(a.Config.StateDir, "disk")
	if err != nil {
		t.Fatal(err)
	}
	state.Stamps = []snapshot.Stamp{oldest, newest}
	if err := state.Save(); err != nil {
		t.Fatal(err)
	}
	doc, err := a.List(t.Context(), now)
	if err != nil || len(doc.Backups) != 3 || doc.BackupDir != h.path("backups") {
		t.Fatalf("%+v, %v", doc, err)
	}
	for i, want := range []struct {
		stamp   snapshot.Stamp
		kind    snapshot.Kind
		pinned  bool
		note    string
		suspect []string
		offsite []string
	}{
		{oldest, snapshot.Manual, true, "before the upgrade", nil, []string{"disk"}},
		{middle, snapshot.Daily, false, "", nil, nil},
		{newest, snapshot.Daily, false, "", []string{"db_shrunk"}, []string{"disk"}},
	} {
		got := doc.Backups[i]
		if got.Stamp != want.stamp || got.Kind != want.kind || got.Pinned != want.pinned || got.Note != want.note ||
			!slices.Equal(got.Suspect, want.suspect) || !slices.Equal(got.Offsite, want.offsite) {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
		if got.Path != h.path("backups/snapshots/"+string(want.stamp)) || got.Valid == nil || !*got.Valid || got.Full {
			t.Errorf("%d: %+v", i, got)
		}
		if got.Bytes <= 0 || got.BytesExclusive <= 0 || got.BytesExclusive > got.Bytes {
			t.Errorf("%d: %d bytes, %d of them its own", i, got.Bytes, got.BytesExclusive)
		}
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Backups []map[string]any `json:"backups"`
	}
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	keys := strings.Fields("bytes bytes_exclusive created_at full kind note offsite path pinned stamp suspect valid")
	if got := slices.Sorted(maps.Keys(read.Backups[1])); !slices.Equal(got, keys) {
		t.Errorf("keys: %q", got)
	}
	for _, key := range []string{"suspect", "offsite"} {
		if _, list := read.Backups[1][key].([]any); !list {
			t.Errorf("%s is %v and no list", key, read.Backups[1][key])
		}
	}
}

// An empty catalog is an empty list, for scripts that go over it.
func TestListOfNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	doc, err := a.List(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(doc)
	if err != nil || !strings.Contains(string(data), `"backups":[],"warnings":[]`) {
		t.Errorf("%s, %v", data, err)
	}
}

// A target whose state cannot be read is a warning, and the catalog is whole.
func TestListWithADamagedTargetState(t *testing.T) {
	t.Parallel()
	h, a, stamp := newOpened(t, "")
	if err := os.MkdirAll(h.path("state/targets/disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("state/targets/disk/state.json", "{")
	doc, err := a.List(t.Context(), time.Now())
	if err != nil || len(doc.Backups) != 1 || doc.Backups[0].Stamp != stamp || len(doc.Warnings) != 1 ||
		!strings.Contains(doc.Warnings[0], "state.json") {
		t.Errorf("%+v, %v", doc, err)
	}
}

// What "latest" means: the newest that is valid, holds slots, and is not of the
// future. A newer one that is not valid is named.
func TestFindLatest(t *testing.T) {
	t.Parallel()
	h, a, base := newOpened(t, "")
	now := time.Now()
	ago := func(minutes int) time.Time { return now.Add(-time.Duration(minutes) * time.Minute) }
	var told []string
	var passedOver snapshot.Stamp
	a.Options.Notice = func(line string) { told = append(told, line) }
	for _, test := range []struct {
		name   string
		at     time.Time
		change func(*snapshot.Manifest)
		counts bool
	}{
		{"a newer daily one", ago(30), nil, true},
		{"an invalid one", ago(29), bornInvalid, false},
		{"one of before a restore", ago(28), kindOf(snapshot.PreRestore), false},
		{"one of the future", now.Add(time.Hour), nil, false},
		{"a manual one", ago(20), kindOf(snapshot.Manual), true},
		{"an adopted one", ago(19), kindOf(snapshot.Adopted), true},
		{"a suspect one", ago(18), func(m *snapshot.Manifest) { m.Suspect = []string{"db_shrunk"} }, true},
		{"an older one", ago(300), kindOf(snapshot.Weekly), false},
	} {
		stamp := h.plant(test.at, test.change)
		if test.counts {
			base = stamp
		}
		told = nil
		got, err := a.Find(t.Context(), "latest", now)
		if err != nil || got.Stamp != base {
			t.Errorf("%s: %s, %v; want %s", test.name, got.Stamp, err, base)
		}
		if test.name == "an invalid one" {
			passedOver = stamp
		}
		if want := passedOver > base; (len(told) == 1 && strings.HasPrefix(told[0], string(passedOver))) != want {
			t.Errorf("%s: told %q", test.name, told)
		}
	}
	// What a later check found out counts too.
	if err := a.history.PutValidation(t.Context(), history.Validation{Stamp: string(base), CheckedAt: now,
		Errors: []string{"checksum_mismatch: db/atocore.db"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Find(t.Context(), "latest", now); err != nil || got.Stamp == base {
		t.Errorf("one that failed a check is the latest: %s, %v", got.Stamp, err)
	}
}

func TestFindErrors(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, test := range []struct {
		name, text string
		kind       failure.Kind
	}{
		{"latest", "atobackupd backup", failure.NotFound},
		{"20260407T060000Z", "20260407T060000Z", failure.NotFound},
		{"yesterday", "a stamp looks like 20260407T060000Z", failure.Usage},
		{"", "a stamp looks like", failure.Usage},
		{"LATEST", "a stamp looks like", failure.Usage},
		{"20261307T060000Z", "a stamp looks like", failure.Usage},
		{"../snapshots/20260407T060000Z", "a stamp looks like", failure.Usage},
	} {
		_, err := a.Find(t.Context(), test.name, time.Now())
		if failure.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%q: %v", test.name, err)
		}
	}
}

// What a later check found is put over what the manifest says, and only that.
func TestOverlay(t *testing.T) {
	yes, no := true, false
	well := &snapshot.Manifest{Validation: snapshot.Validation{Valid: true}}
	earlier, later := noon.Add(-time.Hour), noon.Add(time.Hour)
	for _, test := range []struct {
		name  string
		s     snapshot.Snapshot
		check history.Validation
		valid bool
		since time.Time
	}{
		{"a later check that went well", snapshot.Snapshot{Valid: &yes, Checked: noon, Manifest: well},
			history.Validation{CheckedAt: later, Valid: true}, true, time.Time{}},
		{"a later check that failed", snapshot.Snapshot{Valid: &yes, Checked: noon, Manifest: well},
			history.Validation{CheckedAt: later, FailedSince: later}, false, later},
		{"a check that failed, of a clock that was behind",
			snapshot.Snapshot{Valid: &yes, Checked: noon, Manifest: well},
			history.Validation{CheckedAt: earlier, FailedSince: earlier}, false, earlier},
		{"an older check that went well, of one that was taken invalid",
			snapshot.Snapshot{Valid: &no, Checked: noon, Manifest: &snapshot.Manifest{}},
			history.Validation{CheckedAt: earlier, Valid: true}, false, time.Time{}},
		{"a later check that went well, of one that was taken invalid",
			snapshot.Snapshot{Valid: &no, Checked: noon, Manifest: &snapshot.Manifest{}},
			history.Validation{CheckedAt: later, Valid: true}, true, time.Time{}},
		{"files that are broken whatever the check said",
			snapshot.Snapshot{Valid: &no, Checked: noon, Manifest: well},
			history.Validation{CheckedAt: later, Valid: true}, false, time.Time{}},
		{"one that nobody had looked at", snapshot.Snapshot{},
			history.Validation{CheckedAt: earlier, Valid: true}, true, time.Time{}},
	} {
		s := test.s
		overlay(&s, test.check)
		if s.IsValid() != test.valid || !s.InvalidSince.Equal(test.since) {
			t.Errorf("%s: valid %v since %v, want %v, %v", test.name, s.IsValid(), s.InvalidSince, test.valid,
				test.since)
		}
	}
}

// What retention is told of a snapshot.
func TestForRetention(t *testing.T) {
	no := false
	suspect := taken(0, snapshot.Weekly, "db_shrunk")
	pinned := taken(0, snapshot.Manual)
	pinned.Pinned = true
	accepted := taken(0, snapshot.Daily, "db_shrunk")
	accepted.Manifest.AcceptedAt = &noon
	bad := taken(0, snapshot.Daily)
	bad.Valid, bad.Checked = &no, noon
	found := bad
	found.InvalidSince = noon.AddDate(0, 0, -2)
	unseen := taken(0, snapshot.Adopted)
	unseen.Valid = nil
	for _, test := range []struct {
		name                         string
		s                            snapshot.Snapshot
		valid, full, pinned, suspect bool
		since                        time.Time
	}{
		{"daily", taken(0, snapshot.Daily), true, false, false, false, time.Time{}},
		{"full and suspect", suspect, true, true, false, true, time.Time{}},
		{"suspect and accepted", accepted, true, false, false, false, time.Time{}},
		{"pinned", pinned, true, true, true, false, time.Time{}},
		{"invalid since its last check", bad, false, false, false, false, noon},
		{"invalid since its first failure", found, false, false, false, false, noon.AddDate(0, 0, -2)},
		{"never looked at", unseen, false, true, false, false, time.Time{}},
	} {
		r := ForRetention(test.s)
		if r.Valid != test.valid || r.Full != test.full || r.Pinned != test.pinned || r.Suspect != test.suspect ||
			!r.InvalidSince.Equal(test.since) {
			t.Errorf("%s: %+v", test.name, r)
		}
		if !r.Time.Equal(noon) || r.Stamp != string(snapshot.StampOf(noon)) || r.Kind != string(test.s.Kind) {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
}

// What somebody reads just now is in use, and what a stranger made is no business
// of retention.
func TestPlanned(t *testing.T) {
	t.Parallel()
	h, a, read := newOpened(t, "")
	free := h.plant(time.Now().Add(-time.Minute), nil)
	hold, err := a.store.LockShared(read)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Unlock()
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	list = append(list, snapshot.Snapshot{Stamp: "20260101T000000Z", Foreign: true, Path: list[0].Path})
	plan := a.planned(list)
	if len(plan) != 2 || plan[0].Stamp != string(read) || plan[0].InUse == "" ||
		plan[1].Stamp != string(free) || plan[1].InUse != "" {
		t.Errorf("%+v", plan)
	}
}

func TestPin(t *testing.T) {
	t.Parallel()
	h, a, own := newOpened(t, "")
	good := h.madeByAtoCore(time.Now().Add(-2*time.Hour), false)
	broken := h.madeByAtoCore(time.Now().Add(-3*time.Hour), true)
	for _, test := range []struct {
		name   string
		stamp  snapshot.Stamp
		pinned bool
		kind   failure.Kind
		fails  bool
	}{
		{"one of ours", own, true, failure.Other, false},
		{"twice", own, true, failure.Other, false},
		{"taken away", own, false, failure.Other, false},
		{"one that AtoCore made", good, true, failure.Other, false},
		{"a broken one that AtoCore made", broken, true, failure.Invalid, true},
		{"none", "20200101T000000Z", true, failure.NotFound, true},
	} {
		err := a.Pin(t.Context(), test.stamp, test.pinned)
		if (err != nil) != test.fails || failure.KindOf(err) != test.kind {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.fails {
			continue
		}
		s, err := a.store.Get(test.stamp)
		if err != nil || s.Pinned != test.pinned || s.Manifest == nil {
			t.Errorf("%s: %+v, %v", test.name, s, err)
		}
	}
}

// Of several targets each is asked what it held when it was last seen.
func TestOffsiteHolders(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "\n[[offsite]]\nname = \"second\"\ntype = \"dir\"\npath = \"/srv/second\"\n"+
		"[[offsite]]\nname = \"third\"\ntype = \"dir\"\npath = \"/srv/third\"\n")
	a := h.open()
	defer a.Close()
	const both, one snapshot.Stamp = "20260401T060000Z", "20260402T060000Z"
	for name, stamps := range map[string][]snapshot.Stamp{"disk": {both, one}, "second": {both}} {
		state, err := offsite.LoadState(a.Config.StateDir, name)
		if err != nil {
			t.Fatal(err)
		}
		state.Stamps = stamps
		if err := state.Save(); err != nil {
			t.Fatal(err)
		}
	}
	holders, err := a.OffsiteHolders()
	if err != nil || len(holders) != 2 || !slices.Equal(holders[both], []string{"disk", "second"}) ||
		!slices.Equal(holders[one], []string{"disk"}) {
		t.Errorf("%v, %v", holders, err)
	}
	h.write("state/targets/second/state.json", "no JSON")
	holders, err = a.OffsiteHolders()
	if err == nil || !strings.Contains(err.Error(), "second") || !slices.Equal(holders[both], []string{"disk"}) {
		t.Errorf("one that cannot be read: %v, %v", holders, err)
	}
}
