package app

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
)

// What a drill comes to and what is kept of it: a drill that was held is recorded,
// passed or not; one that could not be held is not.
func TestDrill(t *testing.T) {
	for _, test := range []struct {
		name, of string
		queries  []string
		harm     func(t *testing.T, h *house, stamp snapshot.Stamp)
		kind     failure.Kind
		text     string
		held     bool
		damaged  bool
	}{
		{"passes", "latest", []string{"SELECT count(*) = 1 FROM t"}, nil, 0, "", true, false},
		{"by its stamp", "", nil, nil, 0, "", true, false},
		{"an answer is no", "latest", []string{"SELECT count(*) > 5 FROM t"}, nil, failure.Invalid, "did not pass",
			true, false},
		{"a question that is none", "latest", []string{"SELECT nothing"}, nil, failure.Invalid, "did not pass", true,
			false},
		{"a rotten snapshot", "latest", nil, func(t *testing.T, h *house, stamp snapshot.Stamp) {
			rot(t, h.path("backups/snapshots/"+string(stamp)+"/"+snapshot.DBFile))
		}, failure.Invalid, "checksum_mismatch", true, true},
		{"no such snapshot", "20200101T000000Z", nil, nil, failure.NotFound, "20200101T000000Z", false, false},
		{"no stamp", "yesterday", nil, nil, failure.Usage, "a stamp looks like", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, a, stamp := newOpened(t, "")
			a.Config.Drill.Queries = test.queries
			if test.harm != nil {
				test.harm(t, h, stamp)
			}
			of := test.of
			if of == "" {
				of = string(stamp)
			}
			result, err := a.Drill(t.Context(), of, time.Time{}, "by hand")
			if failure.KindOf(err) != test.kind || (err != nil) != (test.text != "") ||
				err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v", err)
			}
			drills, err := a.history.Drills(t.Context(), 10)
			if err != nil || len(drills) != map[bool]int{false: 0, true: 1}[test.held] {
				t.Fatalf("recorded: %+v, %v", drills, err)
			}
			if test.held && (drills[0].Note != "by hand" || drills[0].Stamp != string(stamp) ||
				drills[0].Pass != (test.text == "") ||
				drills[0].Source != "local" || result.Passed != drills[0].Pass ||
				!drills[0].Pass && len(drills[0].Surprises) == 0) {
				t.Errorf("%+v of %+v", drills[0], result)
			}
			run, found, err := a.history.LastRun(t.Context(), "drill")
			if err != nil || found != test.held || found && (run.Stamp != string(stamp) ||
				(run.Outcome == history.OK) != result.Passed) {
				t.Errorf("the run: %+v, %v", run, err)
			}
			if found, err := a.findings(); err != nil || (len(found) > 0) != test.damaged {
				t.Errorf("findings: %v, %v", found, err)
			}
			if left := fsxtest.Tree(t, h.path("backups/staging")); left != ".\n" {
				t.Errorf("left in staging: %s", left)
			}
		})
	}
}

// While somebody works, a drill waits, and gives up.
func TestDrillIsLocked(t *testing.T) {
	t.Parallel()
	_, a, _ := newOpened(t, "")
	lock, err := a.LockNow(t.Context(), "a prune")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	a.Options.LockTimeout = 0
	if _, err := a.Drill(t.Context(), "latest", time.Time{}, ""); failure.KindOf(err) != failure.Locked ||
		!strings.Contains(err.Error(), "a prune") {
		t.Errorf("%v", err)
	}
}

// A live drill needs to know how to reach and how to stop the service.
func TestLiveDrillNeeds(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	before := fsxtest.Tree(t, filepath.Join(h.dir, "backups"))
	for _, test := range []struct{ url, text string }{
		{"", "atocore.api_url is not set"},
		{"http://127.0.0.1:1", "restore.stop_command and restore.start_command"},
	} {
		a.Config.AtoCore.APIURL = test.url
		if _, err := a.LiveDrill(t.Context(), ""); failure.KindOf(err) != failure.Config ||
			!strings.Contains(err.Error(), test.text) {
			t.Errorf("%q: %v", test.url, err)
		}
	}
	if _, found, err := a.history.LastRun(t.Context(), "drill"); err != nil || found {
		t.Errorf("a question is remembered: %v", err)
	}
	if after := fsxtest.Tree(t, filepath.Join(h.dir, "backups")); strings.Contains(after, "snapshots/2") {
		t.Errorf("something was taken: %s, before: %s", after, before)
	}
}

// How a drill that was held is recorded, and what it is as an error.
func TestDrilled(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for i, test := range []struct {
		result    restore.DrillResult
		err       error
		fails     bool
		surprises []string
	}{
		{restore.DrillResult{Stamp: "20260407T060000Z", Passed: true, Bytes: 42, DurationMS: 1500}, nil, false, nil},
		{restore.DrillResult{Stamp: "20260407T060000Z", Passed: true, Surprises: []string{"slow"}}, nil, false,
			[]string{"slow"}},
		{restore.DrillResult{Stamp: "20260407T060000Z", Errors: []string{"rows: 3, not 4"},
			Surprises: []string{"slow"}}, nil, true, []string{"rows: 3, not 4", "slow"}},
	} {
		run := history.Run{StartedAt: noon.Add(time.Duration(i) * time.Hour)}
		err := a.drilled(t.Context(), &run, test.result, "a note", test.err)
		if (err != nil) != test.fails || err != nil && (failure.KindOf(err) != failure.Invalid ||
			!strings.Contains(err.Error(), "rows: 3, not 4")) {
			t.Errorf("%d: %v", i, err)
		}
		drills, err := a.history.Drills(t.Context(), 1)
		if err != nil || len(drills) != 1 {
			t.Fatal(drills, err)
		}
		if d := drills[0]; d.Pass != test.result.Passed || !slices.Equal(d.Surprises, test.surprises) &&
			len(d.Surprises)+len(test.surprises) > 0 || !d.StartedAt.Equal(run.StartedAt) ||
			d.Duration.Milliseconds() != test.result.DurationMS || run.Bytes != test.result.Bytes {
			t.Errorf("%d: %+v", i, d)
		}
	}
	why := errors.New("no room")
	if err := a.drilled(t.Context(), &history.Run{}, restore.DrillResult{}, "", why); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	if drills, err := a.history.Drills(t.Context(), 10); err != nil || len(drills) != 3 {
		t.Errorf("one that was not held is recorded: %+v, %v", drills, err)
	}
}
