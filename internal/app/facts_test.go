package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// Facts are gathered afresh: each change of the world shows with the next question,
// and goes with it.
func TestFactsAreGatheredAfresh(t *testing.T) {
	t.Parallel()
	h, a, stamp := newOpened(t, "")
	dir := h.path("backups/snapshots/" + string(stamp))
	conditions := func() map[string]bool {
		names := make(map[string]bool)
		for _, c := range a.Report(t.Context(), time.Now()).Conditions {
			names[c.Name] = true
		}
		return names
	}
	for _, test := range []struct {
		name       string
		make, undo func() error
	}{
		{"damaged", func() error {
			a.noteValidation(t.Context(), stamp, false, []string{"torn"}, "scrub")
			return nil
		}, func() error {
			_, err := a.Validate(t.Context(), stamp)
			return err
		}},
		{"restore_pending", func() error {
			return os.WriteFile(h.path("state/restore-journal.json"), []byte(`{"stamp": "x"}`), 0o600)
		}, func() error { return os.Remove(h.path("state/restore-journal.json")) }},
		{"recipients", func() error {
			a.Config.Encryption.Recipients = nil
			return nil
		}, func() error {
			again := h.open()
			a.Config.Encryption = again.Config.Encryption
			return again.Close()
		}},
		{"source_shrunk", func() error {
			h.rewrite(stamp, func(m *snapshot.Manifest) { m.Suspect = []string{"db_shrunk"} })
			return nil
		}, func() error { return a.Accept(t.Context(), stamp) }},
		{"clock", func() error {
			h.plant(time.Now().Add(time.Hour*48), nil)
			return nil
		}, func() error {
			list, err := filepath.Glob(filepath.Dir(dir) + "/*")
			if err != nil {
				return err
			}
			return os.RemoveAll(list[len(list)-1])
		}},
		{"shared", func() error { return os.Chmod(h.path("backups"), 0o777) },
			func() error { return os.Chmod(h.path("backups"), 0o755) }},
	} {
		if conditions()[test.name] {
			t.Errorf("%s: before", test.name)
		}
		if err := test.make(); err != nil {
			t.Fatal(err)
		}
		if !conditions()[test.name] {
			t.Errorf("%s: nobody says so", test.name)
		}
		if err := test.undo(); err != nil {
			t.Fatal(err)
		}
		if conditions()[test.name] {
			t.Errorf("%s: it is said still", test.name)
		}
	}
}

// When the two newest takes that count were made.
func TestTakes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	no := false
	bad := taken(-1, snapshot.Daily)
	bad.Valid = &no
	at := func(day int) time.Time {
		if day == 9 {
			return time.Time{}
		}
		return noon.AddDate(0, 0, day)
	}
	for _, test := range []struct {
		name           string
		list           []snapshot.Snapshot
		newest, before int
	}{
		{"none", nil, 9, 9},
		{"one", []snapshot.Snapshot{taken(-2, snapshot.Daily)}, -2, 9},
		{"three", []snapshot.Snapshot{taken(-3, snapshot.Daily), taken(-2, snapshot.Weekly),
			taken(-1, snapshot.Manual)}, -1, -2},
		{"a bad one", []snapshot.Snapshot{taken(-3, snapshot.Daily), taken(-2, snapshot.Daily), bad}, -2, -3},
		{"before a restore", []snapshot.Snapshot{taken(-3, snapshot.Daily), taken(-1, snapshot.PreRestore)}, -3, 9},
		{"of the future", []snapshot.Snapshot{taken(-3, snapshot.Daily), taken(1, snapshot.Daily)}, -3, 9},
	} {
		got := a.takes(test.list, noon)
		if !got.Newest.Equal(at(test.newest)) || !got.Before.Equal(at(test.before)) || got.Limit != 26*time.Hour {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// A vector store of which nobody could tell whether it is whole.
func TestUnverified(t *testing.T) {
	of := func(day int, kind snapshot.Kind, consistency string) snapshot.Snapshot {
		s := taken(day, kind)
		s.Manifest.Artifacts = map[string]snapshot.Artifact{snapshot.Chroma: {Consistency: consistency}}
		return s
	}
	theirs := taken(0, snapshot.Adopted)
	theirs.Manifest = nil
	for _, test := range []struct {
		name string
		list []snapshot.Snapshot
		want string
	}{
		{"none", nil, ""},
		{"whole", []snapshot.Snapshot{of(-1, snapshot.Weekly, snapshot.Consistent)}, ""},
		{"not proven", []snapshot.Snapshot{of(-1, snapshot.Weekly, snapshot.Unverified)}, "20260406T120000Z"},
		{"and a bare one after it",
			[]snapshot.Snapshot{of(-1, snapshot.Weekly, snapshot.Unverified), of(0, snapshot.Daily, "")},
			"20260406T120000Z"},
		{"and a whole one after it",
			[]snapshot.Snapshot{of(-1, snapshot.Weekly, snapshot.Unverified),
				of(0, snapshot.Weekly, snapshot.Consistent)}, ""},
		{"one that AtoCore made says nothing", []snapshot.Snapshot{theirs}, ""},
	} {
		got := unverified(test.list, noon)
		if (got != nil) != (test.want != "") || got != nil && (!strings.Contains(got.Message, test.want) ||
			!strings.HasSuffix(got.Hint, "atobackupd validate "+test.want) || got.Since.IsZero()) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// Whether a full disk or a lost history is noticed, and when it is over.
func TestHistoryFacts(t *testing.T) {
	t.Parallel()
	h, a, _ := newOpened(t, "")
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if f := a.historyFacts(t.Context(), list); f != (health.History{}) {
		t.Errorf("all is well: %+v", f)
	}
	if err := a.history.NoteStartedOver(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		outcome history.Outcome
		left    string
		passed  bool
	}{
		{"a scrub that failed", history.Failed, `{}`, false},
		{"a scrub of a part", history.OK, `{"left": 2}`, false},
		{"a scrub of all", history.OK, `{}`, true},
	} {
		record(t, a, history.Run{Job: "scrub", StartedAt: noon, Outcome: test.outcome, Detail: []byte(test.left)})
		if f := a.historyFacts(t.Context(), list); f.ScrubPassed != test.passed || f.StartedOver.IsZero() {
			t.Errorf("%s: %+v", test.name, f)
		}
	}
	h.move("state/history.db", "state/history.away")
	if f := a.historyFacts(t.Context(), list); !f.Missing {
		t.Errorf("it was taken away: %+v", f)
	}
	if f := a.historyFacts(t.Context(), nil); f.Missing {
		t.Errorf("and there never was a snapshot: %+v", f)
	}
}

// What the next full snapshot needs: the live files, where blocks are not shared.
func TestNextBytes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Config.Backup.Share = "copy"
	info, err := os.Stat(h.path("data/a.db"))
	if err != nil {
		t.Fatal(err)
	}
	want := info.Size()
	for _, test := range []struct {
		name string
		add  int64
		make func() error
	}{
		{"the database", 0, func() error { return nil }},
		{"its log", 100, func() error { return os.WriteFile(h.path("data/a.db-wal"), make([]byte, 100), 0o600) }},
		{"the registry", 10, func() error {
			a.Config.AtoCore.RegistryPath = h.path("r.json")
			return os.WriteFile(h.path("r.json"), make([]byte, 10), 0o600)
		}},
		{"a Chroma directory that is not there", 0, func() error {
			a.Config.AtoCore.ChromaPath = h.path("chroma")
			return nil
		}},
		{"Chroma, with a link that is not followed", 1000, func() error {
			if err := os.MkdirAll(h.path("chroma/segment"), 0o700); err != nil {
				return err
			}
			if err := os.Symlink(h.path("data"), h.path("chroma/link")); err != nil {
				return err
			}
			return os.WriteFile(h.path("chroma/segment/header.bin"), make([]byte, 1000), 0o600)
		}},
	} {
		if err := test.make(); err != nil {
			t.Fatal(err)
		}
		if want += test.add; a.nextBytes() != want {
			t.Errorf("%s: %d, want %d", test.name, a.nextBytes(), want)
		}
	}
}

// Who holds the main lock, and since when.
func TestLockFacts(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if l := a.lockFacts(1, noon); l != nil {
		t.Errorf("nobody: %+v", l)
	}
	lock, err := a.LockNow(t.Context(), "pruning")
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(h.path("backups/.lock"), long, long); err != nil {
		t.Fatal(err)
	}
	for daemon, hint := range map[int]string{1: fmt.Sprintf("`ps -o pid,etime,stat,args -p %d`", os.Getpid()),
		os.Getpid(): "`atobackupd status`"} {
		if l := a.lockFacts(daemon, noon); l == nil || !strings.Contains(l.Holder, "pruning") ||
			!l.Since.Equal(long) || !strings.Contains(l.Hint, hint) {
			t.Errorf("%+v lacks %s", l, hint)
		}
	}
	put(t, h.path("backups/.lock"), "")
	if l := a.lockFacts(1, noon); l == nil || !strings.Contains(l.Hint, "`fuser -v "+h.path("backups/.lock")+"`") {
		t.Errorf("a holder that does not say who it is: %+v", l)
	}
	if err := os.Chtimes(h.path("backups/.lock"), long, long); err != nil {
		t.Fatal(err)
	}
	if !hasCondition(a.Report(t.Context(), time.Now()).Conditions, "lock") {
		t.Error("nobody is told")
	}
	lock.Unlock()
	if l := a.lockFacts(1, noon); l != nil {
		t.Errorf("it is free again: %+v", l)
	}
}

// Whether anybody can be sealed to matters only where something is sent.
func TestRecipientsFact(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	good := a.Config.Encryption.Recipients
	h.write("recipients", "no key\n")
	for _, test := range []struct {
		name       string
		recipients []string
		file       string
		targets    bool
		text       string
	}{
		{"one", good, "", true, ""},
		{"none", nil, "", true, "there is none"},
		{"none, and nothing is sent", nil, "", false, ""},
		{"one that is none", []string{"age1x"}, "", true, "recipient 1"},
		{"a file that is not there", good, h.path("none"), true, "none"},
		{"a file that holds none", nil, h.path("recipients"), true, "recipients"},
	} {
		e := &a.Config.Encryption
		e.Recipients, e.RecipientsFile = test.recipients, test.file
		targets := a.Config.Offsite
		if !test.targets {
			a.Config.Offsite = nil
		}
		got := a.recipientsFact()
		if (got != nil) != (test.text != "") || got != nil && !strings.Contains(got.Message, test.text) {
			t.Errorf("%s: %+v", test.name, got)
		}
		a.Config.Offsite = targets
	}
}
