package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
)

func newPrune(c *cli) *cobra.Command {
	var dryRun, confirm bool
	cmd := &cobra.Command{
		Use:     "prune",
		GroupID: groupDaily,
		Short:   "Delete the snapshots that retention does not keep",
		Long: `Delete the snapshots that [retention] does not keep. The newest valid one, the
newest full one and pinned ones are always kept. A plan that would delete more
than retention.max_delete_fraction of the valid snapshots is held until
--confirm.`,
		Example: "  atobackupd prune --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				now := time.Now()
				plan, err := a.Prune(cmd.Context(), now, dryRun, confirm)
				if err != nil && plan.Snapshots == nil {
					return err
				}
				if emitErr := c.emit(plan, func(w io.Writer) { printPlan(w, plan, now, c.width()) }); emitErr != nil {
					return emitErr
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan and delete nothing")
	cmd.Flags().BoolVar(&confirm, "confirm", false, "carry out a plan that is held")
	return cmd
}

func printPlan(w io.Writer, plan app.PrunePlan, now time.Time, width int) {
	reasons := make(map[string][]string)
	verdict := make(map[string]string)
	for _, v := range plan.Keep {
		verdict[v.Stamp], reasons[v.Stamp] = "keep", v.Reasons
	}
	for _, v := range plan.Delete {
		verdict[v.Stamp], reasons[v.Stamp] = "DELETE", v.Reasons
	}
	t := newTable(column{title: "STAMP"}, column{title: "AGE", drop: 2, right: true},
		column{title: "SIZE", drop: 3, right: true}, column{title: "CHROMA", drop: 1}, column{title: "VERDICT"},
		column{title: "REASONS", wrap: true, least: 40})
	for _, s := range plan.Snapshots {
		stamp := string(s.Stamp)
		t.row(stamp, age(now, s.CreatedAt), humanize.IBytes(uint64(s.Bytes)), yes(s.Full), verdict[stamp],
			strings.Join(reasons[stamp], "; "))
	}
	t.print(w, width)
	for _, warning := range plan.Warnings {
		fmt.Fprintln(w, "warning:", escape.String(warning))
	}
	switch {
	case plan.DryRun && plan.Held:
		fmt.Fprintf(w, "would be held: %s; `atobackupd prune --confirm` carries it out\n", plan.Why)
	case plan.DryRun:
		fmt.Fprintf(w, "would keep %d and delete %d, which frees %s\n", len(plan.Keep), len(plan.Delete),
			humanize.IBytes(uint64(plan.Frees)))
	default:
		fmt.Fprintf(w, "kept %d, deleted %d\n", len(plan.Snapshots)-len(plan.Deleted), len(plan.Deleted))
	}
}
