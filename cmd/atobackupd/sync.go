package main

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/offsite"
)

func newSync(c *cli) *cobra.Command {
	var target string
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "sync",
		GroupID: groupOffsite,
		Short:   "Ship snapshots to the configured targets",
		Long: `Ship every snapshot that a target's retention wants and that it does not hold,
newest first, encrypted. Exits 75 when the only targets that are not up to date
did not answer: a sleeping laptop is tried again later.`,
		Example: "  atobackupd sync\n  atobackupd sync --target laptop --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				docs, err := a.Sync(cmd.Context(), target, dryRun)
				if docs == nil {
					return err
				}
				if emitErr := c.emit(docs, func(w io.Writer) { printSynced(w, docs, dryRun) }); emitErr != nil {
					return emitErr
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "only this `target`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be sent, and send nothing")
	_ = cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	return cmd
}

func printSynced(w io.Writer, docs []app.Synced, dryRun bool) {
	for _, d := range docs {
		for _, p := range d.Pushed {
			printPushed(w, d.Target, p)
		}
		if dryRun {
			for _, stamp := range d.Skipped {
				fmt.Fprintf(w, "%s: would send %s\n", d.Target, stamp)
			}
		}
		for _, stamp := range d.Pruned {
			fmt.Fprintf(w, "%s: removed %s from the vault\n", d.Target, stamp)
		}
		for _, warning := range d.Warnings {
			fmt.Fprintf(w, "%s: warning: %s\n", d.Target, escape.String(warning))
		}
		fmt.Fprintf(w, "%s: %s\n", d.Target, d.State)
	}
}

func printPushed(w io.Writer, target string, p offsite.Pushed) {
	fmt.Fprintf(w, "%s: sent %s, %s in %s, %.1fs\n", target, p.Stamp, humanize.IBytes(uint64(p.Bytes)),
		count(p.Packs, "pack"), float64(p.DurationMS)/1000)
}
