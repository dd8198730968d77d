package app

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/history"
)

// Which runs history shows, oldest first.
func TestRunFilter(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, r := range []struct {
		job     string
		ago     time.Duration
		outcome history.Outcome
	}{
		{"backup", 5, history.OK},
		{"sync:laptop", 4, history.Skipped},
		{"sync:disk", 3, history.Failed},
		{"backup", 9, history.TimedOut}, // recorded later, by a clock that was put back
		{DaemonJob, 2, history.Failed},
		{"scrub", 1, history.Interrupted},
		{"drill", 0, history.Running},
	} {
		record(t, a, history.Run{Job: r.job, StartedAt: noon.Add(-r.ago * time.Hour), Outcome: r.outcome})
	}
	for _, test := range []struct {
		name   string
		filter RunFilter
		want   string
	}{
		{"all", RunFilter{}, "backup backup sync:laptop sync:disk scrub drill"},
		{"of a job", RunFilter{Job: "backup"}, "backup backup"},
		{"of a job of every target", RunFilter{Job: "sync"}, "sync:laptop sync:disk"},
		{"of one target", RunFilter{Job: "sync:disk"}, "sync:disk"},
		{"that did not end well", RunFilter{Failed: true}, "backup sync:disk scrub"},
		{"of a job that did not", RunFilter{Job: "sync", Failed: true}, "sync:disk"},
		{"since", RunFilter{Since: noon.Add(-4 * time.Hour)}, "sync:laptop sync:disk scrub drill"},
		{"of a job that nobody knows", RunFilter{Job: "bake"}, ""},
		{"the daemon's own", RunFilter{Job: DaemonJob}, ""},
	} {
		runs, err := a.Runs(t.Context(), test.filter)
		if err != nil || runs == nil {
			t.Errorf("%s: %v, %v", test.name, runs, err)
		}
		var jobs []string
		for _, run := range runs {
			jobs = append(jobs, run.Job)
		}
		if got := strings.Join(jobs, " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Whatever this program records, history can be asked for.
func TestJobNames(t *testing.T) {
	for _, l := range legs(configOf(t, withChroma+twoTargets)) {
		job, _, _ := strings.Cut(l.runs, ":")
		if !slices.Contains(JobNames, job) {
			t.Errorf("the runs of %s are recorded under %s, which no filter names", l.name, job)
		}
	}
}
