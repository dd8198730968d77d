package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/restore"
)

func newDrill(c *cli) *cobra.Command {
	var live bool
	var note string
	cmd := &cobra.Command{
		Use:     "drill [STAMP|latest]",
		GroupID: groupRecovery,
		Short:   "Restore into a scratch directory, check, and throw it away",
		Long: `Restore a snapshot (the latest, if none is named) into a scratch directory,
check its integrity, its digests, its row counts and drill.queries, record how
it went, and delete it. Exits 3 when it does not pass.

--live is the full drill against the real service: a snapshot, a marker memory
written after it, stop, restore, start, and the marker must be gone. What else
was written meanwhile is gone as well, and is in the pre-restore snapshot.

The record (stamp, pre-restore snapshot, outcome, surprises, --note) is kept by
history and goes to the vault with the next push.`,
		Example:           "  atobackupd drill\n  atobackupd drill --live --note upgraded",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeStamps,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "latest"
			if len(args) > 0 {
				name = args[0]
			}
			if live && len(args) > 0 {
				return &failure.Error{Op: "drill --live", Kind: failure.Usage,
					Err: errors.New("it takes its own snapshot, and no stamp")}
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				var result restore.DrillResult
				var err error
				if live {
					result, err = a.LiveDrill(cmd.Context(), note)
				} else {
					result, err = a.Drill(cmd.Context(), name, time.Time{}, note)
				}
				return c.emitWith(err, result, func(w io.Writer) { printDrill(w, result) })
			})
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "the full drill, against the real service")
	cmd.Flags().StringVar(&note, "note", "", "what there is to say of it, kept with its record")
	return cmd
}

func printDrill(w io.Writer, r restore.DrillResult) {
	if r.Live {
		fmt.Fprintf(w, "live drill with %s passed: %s, %.1fs\n", r.Stamp, humanize.IBytes(uint64(r.Bytes)),
			float64(r.DurationMS)/1000)
		fmt.Fprintf(w, "what was live before it is %s\n", r.PreRestoreSnapshot)
	} else {
		fmt.Fprintf(w, "drill with %s passed: %s in %s, %.1fs\n", r.Stamp, humanize.IBytes(uint64(r.Bytes)),
			count(r.Files, "file"), float64(r.DurationMS)/1000)
	}
	for _, surprise := range r.Surprises {
		fmt.Fprintln(w, "surprise:", surprise)
	}
}
