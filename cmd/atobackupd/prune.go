package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/snapshot"
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
			a, err := c.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer a.Close()
			now := time.Now()
			plan, err := a.Prune(cmd.Context(), now, dryRun, confirm)
			if err != nil && plan.Snapshots == nil {
				return err
			}
			if emitErr := c.emit(plan, func(w io.Writer) { printPlan(w, plan, now, c.width()) }); emitErr != nil {
				return emitErr
			}
			return err
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
		column{title: "SIZE", right: true},
		column{title: "CHROMA", drop: 1}, column{title: "VERDICT"}, column{title: "REASONS", wrap: true})
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

func newPin(c *cli) *cobra.Command {
	return pinCommand(c, "pin", "Keep a snapshot whatever retention says", `Mark a snapshot so that prune keeps it, here and on the targets, until
`+"`atobackupd unpin`"+` takes the mark away.`, true)
}

func newUnpin(c *cli) *cobra.Command {
	return pinCommand(c, "unpin", "Let retention decide about a snapshot again", `Take the mark of `+"`atobackupd pin`"+` away. The next prune may delete the
snapshot: see `+"`atobackupd prune --dry-run`"+`.`, false)
}

func pinCommand(c *cli, name, short, long string, pinned bool) *cobra.Command {
	return &cobra.Command{
		Use:               name + " STAMP|latest",
		GroupID:           groupDaily,
		Short:             short,
		Long:              long,
		Example:           "  atobackupd " + name + " 20260407T060000Z",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeStamps,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != latest {
				if _, err := snapshot.ParseStamp(args[0]); err != nil {
					return err
				}
			}
			a, err := c.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer a.Close()
			stamp, err := stampOf(cmd.Context(), a, args[0])
			if err != nil {
				return err
			}
			if err := a.Pin(cmd.Context(), stamp, pinned); err != nil {
				return err
			}
			return c.emit(map[string]any{"stamp": stamp, "pinned": pinned}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is %sned\n", stamp, name)
			})
		},
	}
}

// latest stands for the newest snapshot that counts, wherever a stamp goes.
const latest = "latest"

// stampOf returns the stamp that a word of the command line means.
func stampOf(ctx context.Context, a *app.App, word string) (snapshot.Stamp, error) {
	if word != latest {
		return snapshot.ParseStamp(word)
	}
	s, err := a.Find(ctx, word, time.Now())
	return s.Stamp, err
}
