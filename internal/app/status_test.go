package app

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

func hasCondition(list []health.Condition, name string) bool {
	return slices.ContainsFunc(list, func(c health.Condition) bool { return c.Name == name })
}

// The document of status, with the legs in the order of the configuration and the
// keys that the contract names.
func TestStatus(t *testing.T) {
	t.Parallel()
	h, a, stamp := newOpened(t, "")
	now := time.Now()
	future := h.plant(now.Add(48*time.Hour), nil)
	record(t, a, history.Run{Job: "scrub", StartedAt: now.Add(-time.Minute), Outcome: history.Running})
	record(t, a, history.Run{Job: DaemonJob, StartedAt: now.Add(-time.Minute), Outcome: history.Running})
	if _, _, err := a.history.Raise(t.Context(), health.Alarm{Leg: "snapshot", Level: health.LevelCritical,
		Message: "too old", Since: now}); err != nil {
		t.Fatal(err)
	}
	doc, err := a.Status(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range doc.Legs {
		names = append(names, l.Name)
	}
	if got := strings.Join(names, " "); got != "snapshot offsite:disk verify:disk prune scrub drill live-drill" {
		t.Errorf("legs: %s", got)
	}
	if s := doc.Snapshots; s.Count != 2 || s.Valid != 2 || s.Full != 0 || s.Newest != string(stamp) || s.Bytes <= 0 {
		t.Errorf("%+v", s)
	}
	if len(doc.Running) != 1 || doc.Running[0].Job != "scrub" || len(doc.Alarms) != 1 || len(doc.Targets) != 1 {
		t.Errorf("%+v, %+v, %+v", doc.Running, doc.Alarms, doc.Targets)
	}
	if !hasCondition(doc.Conditions, "clock") {
		t.Errorf("%s lies in the future: %+v", future, doc.Conditions)
	}
	if doc.Daemon.State != health.DaemonNever || doc.Daemon.Since != nil {
		t.Errorf("%+v", doc.Daemon)
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var read map[string]any
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"level", "legs", "conditions", "daemon", "running", "snapshots", "targets", "alarms"} {
		if _, ok := read[key]; !ok {
			t.Errorf("%s is missing in %v", key, slices.Sorted(maps.Keys(read)))
		}
	}
	leg := read["legs"].([]any)[0].(map[string]any)
	for _, key := range []string{"name", "level", "last_success", "last_attempt", "age_s", "next", "message"} {
		if _, ok := leg[key]; !ok {
			t.Errorf("%s is missing in %v", key, leg)
		}
	}
}

// How far each target is behind what is here.
func TestTargetStatus(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	list := []snapshot.Snapshot{taken(-3, snapshot.Weekly), taken(-2, snapshot.Daily), taken(-1, snapshot.PreRestore),
		taken(0, snapshot.Daily), taken(2, snapshot.Daily)}
	for _, test := range []struct {
		name             string
		held             []int
		snapshots        int
		newest           string
		behind           int
		stateIsUnredable bool
	}{
		{"nothing is there", nil, 0, "", 3, false},
		{"the first is there", []int{-3}, 1, "20260404T120000Z", 2, false},
		{"all are there", []int{-3, -2, 0}, 3, "20260407T120000Z", 0, false},
		{"one of the future is there", []int{-3, 2}, 2, "20260404T120000Z", 2, false},
		{"one that is gone here", []int{-10, -2}, 2, "20260405T120000Z", 1, false},
		{"nobody can tell", nil, 0, "", 3, true},
	} {
		state, err := offsite.LoadState(a.Config.StateDir, "disk")
		if err != nil {
			t.Fatal(err)
		}
		state.Stamps = nil
		for _, day := range test.held {
			state.Stamps = append(state.Stamps, taken(day, snapshot.Daily).Stamp)
		}
		if err := state.Save(); err != nil {
			t.Fatal(err)
		}
		if test.stateIsUnredable {
			h.write("state/targets/disk/state.json", "{")
		}
		got := a.targetStatus(health.Report{}, list, noon)
		want := health.TargetStatus{Name: "disk", Type: "dir", Snapshots: test.snapshots, Newest: test.newest,
			Behind: test.behind}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v, want %+v", test.name, got, want)
		}
		away := health.Report{Legs: []health.Leg{{Name: health.LegOffsite("disk"), Away: true}}}
		want = health.TargetStatus{Name: "disk", Type: "dir", Behind: 3, Away: true, LastSeen: test.newest}
		if got = a.targetStatus(away, list, noon); len(got) != 1 || got[0] != want {
			t.Errorf("%s, and its vault is away: %+v, want %+v", test.name, got, want)
		}
	}
}

// Where there is no history yet, status speaks; it asks for no history of others.
func TestHistoryHidden(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, test := range []struct {
		name  string
		make  func() error
		error bool
	}{
		{"as it is", func() error { return nil }, false},
		{"none", func() error { return os.Rename(a.historyPath(), a.historyPath()+".away") }, false},
		{"below a file, which is a condition", func() error {
			a.Config.StateDir = h.path("config.toml")
			return nil
		}, false},
	} {
		if err := test.make(); err != nil {
			t.Fatal(err)
		}
		if err := a.historyHidden(); (err != nil) != test.error {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
