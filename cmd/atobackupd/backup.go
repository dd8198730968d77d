package main

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

func newBackup(c *cli) *cobra.Command {
	var chroma, noChroma bool
	var kindName, note string
	cmd := &cobra.Command{
		Use:     "backup",
		Aliases: []string{"take"},
		GroupID: groupDaily,
		Short:   "Take a snapshot now and validate it",
		Long: `Take a snapshot of the database and the registry, and of Chroma when it is a
weekly or monthly one or --chroma says so. The application goes on working
meanwhile. The snapshot appears only when it is whole, validated and on disk.`,
		Example: "  atobackupd backup\n  atobackupd backup --chroma --note upgrade",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := snapshot.ParseKind(kindName)
			if err != nil {
				return err
			}
			if chroma && noChroma {
				return &failure.Error{Op: "backup", Kind: failure.Usage,
					Err: fmt.Errorf("--chroma and --no-chroma exclude each other")}
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				full := (kind.Full() || chroma) && !noChroma
				taken, err := a.BackupWithNote(cmd.Context(), kind, full, note)
				if err != nil {
					return err
				}
				return c.emit(taken, func(w io.Writer) {
					fmt.Fprintf(w, "%s  %s  %s  valid, in %.1fs\n%s\n", taken.Stamp,
						describeKind(taken.Kind, taken.Full),
						humanize.IBytes(uint64(taken.Bytes)), float64(taken.DurationMS)/1000, taken.Path)
					for _, warning := range taken.Validation.Warnings {
						fmt.Fprintln(w, "warning:", escape.String(warning))
					}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&chroma, "chroma", false, "with the Chroma directory")
	cmd.Flags().BoolVar(&noChroma, "no-chroma", false, "without it, whatever the kind")
	cmd.Flags().StringVar(&note, "note", "", "what it is for, shown by list")
	cmd.Flags().StringVar(&kindName, "kind", string(snapshot.Manual), "the `kind`: daily, weekly, monthly or manual")
	var kinds []cobra.Completion
	for _, kind := range snapshot.AskedKinds() {
		kinds = append(kinds, string(kind))
	}
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func describeKind(kind snapshot.Kind, full bool) string {
	if full {
		return string(kind) + ", full"
	}
	return string(kind)
}
