package main

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultRebase(c *cli) *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "rebase",
		Short: "Send the newest snapshots anew, in full",
		Long: `Send the newest full snapshot, and the newest one if that is another, without
referring to anything that was sent before. sync does so by itself when the
recipients change or old patches outweigh their base; by hand it is needed when
what lies on the target is no longer trusted.`,
		Example: "  atobackupd vault rebase --target laptop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				t, err := a.Target(target)
				if err != nil {
					return err
				}
				pushed, err := a.RebaseVault(cmd.Context(), t)
				doc := map[string]any{"target": t.Name, "pushed": append([]offsite.Pushed{}, pushed...)}
				return c.emitWith(err, doc, func(w io.Writer) {
					for _, p := range pushed {
						fmt.Fprintf(w, "%s: pushed %s in %s, %s\n", t.Name, p.Stamp, count(p.Packs, "pack"),
							humanize.IBytes(uint64(p.Bytes)))
					}
				})
			})
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "a configured `target`; needed only when there are several")
	_ = cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	return cmd
}
