package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
)

func newHistory(c *cli) *cobra.Command {
	var f app.RunFilter
	var since string
	cmd := &cobra.Command{
		Use:     "history",
		GroupID: groupLook,
		Short:   "Show what was run, when, how long, and how it ended",
		Long: `Show the runs of all jobs, by the daemon and by commands, newest last: when,
how long, how much, how each ended, and why those failed that did. Drills and
restores are among them: this is the record that a procedure asks for.`,
		Example: "  atobackupd history --since 7d\n  atobackupd history --job drill\n  atobackupd history --failed " +
			"--json | jq '.runs[].error'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.Job != "" && !slices.Contains(app.JobNames, f.Job) {
				return usageError(cmd, fmt.Errorf("there is no job %q", f.Job), config.Nearest(f.Job, app.JobNames))
			}
			age, err := config.ParseDuration(since)
			if err != nil || age <= 0 {
				return usageError(cmd, errors.Join(fmt.Errorf("--since wants an age such as 24h or 7d, not %q", since)),
					"")
			}
			f.Since = time.Now().Add(-time.Duration(age))
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				runs, err := a.Runs(cmd.Context(), f)
				if err != nil {
					return &failure.Error{Op: "history", Err: err}
				}
				return c.emit(map[string]any{"runs": runs}, func(w io.Writer) { printRuns(w, runs, c.width()) })
			})
		},
	}
	cmd.Flags().StringVar(&f.Job, "job", "", "only this `job`: backup, sync, prune, scrub, drill, …")
	cmd.Flags().BoolVar(&f.Failed, "failed", false, "only what did not end well")
	cmd.Flags().StringVar(&since, "since", "30d", "how far back: an `age` such as 24h or 7d")
	_ = cmd.RegisterFlagCompletionFunc("job", cobra.FixedCompletions(app.JobNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func printRuns(w io.Writer, runs []health.Run, width int) {
	t := newTable(column{title: "STARTED (UTC)"}, column{title: "JOB"}, column{title: "TOOK", right: true},
		column{title: "SIZE", right: true, drop: 1},
		column{title: "OUTCOME"}, column{title: "SNAPSHOT", drop: 2})
	for _, run := range runs {
		took, size := "", ""
		if !run.FinishedAt.IsZero() {
			took = run.FinishedAt.Sub(run.StartedAt).Round(100 * time.Millisecond).String()
		}
		if run.Bytes > 0 {
			size = humanize.IBytes(uint64(run.Bytes))
		}
		t.row(run.StartedAt.UTC().Format("2006-01-02 15:04:05"), run.Job, took, size, string(run.Outcome), run.Stamp)
	}
	t.print(w, width)
	for _, run := range runs {
		began, detail := run.StartedAt.UTC().Format("2006-01-02 15:04:05"), health.DetailOf(run)
		if detail.PreRestore != "" {
			say(w, width, began+" "+run.Job+": what was live before it is "+detail.PreRestore, "")
		}
		if detail.Note != "" {
			say(w, width, began+" "+run.Job+": note: "+detail.Note, "")
		}
		if run.Error != "" {
			say(w, width, began+" "+about(run.Job, run.Error), "")
		}
	}
	fmt.Fprintln(w, count(len(runs), "run"))
}
