package app

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
)

// JobNames are the jobs whose runs the history records. A job of one target has
// the target's name after a colon, as in "sync:laptop".
var JobNames = []string{"backup", "sync", "prune", "scrub", "verify", "drill", "restore", "bootstrap",
	DigestJob}

// RunFilter chooses among the recorded runs.
type RunFilter struct {
	Job    string // one of JobNames; "" is all
	Failed bool   // only those that did not end well
	Since  time.Time
}

// maxRuns bounds what is read of a long history.
const maxRuns = 10_000

// Runs returns the recorded runs that f chooses, oldest first.
func (a *App) Runs(ctx context.Context, f RunFilter) ([]health.Run, error) {
	all, err := a.history.Runs(ctx, "", f.Since, maxRuns)
	if err != nil {
		return nil, err
	}
	runs := []health.Run{}
	for _, run := range all {
		job, _, _ := strings.Cut(run.Job, ":")
		well := run.Outcome == history.OK || run.Outcome == history.Running || run.Outcome == history.Skipped
		if run.Job == DaemonJob || f.Job != "" && job != f.Job && run.Job != f.Job || f.Failed && well {
			continue
		}
		runs = append(runs, run)
	}
	slices.SortStableFunc(runs, func(a, b health.Run) int { return a.StartedAt.Compare(b.StartedAt) })
	return runs, nil
}
