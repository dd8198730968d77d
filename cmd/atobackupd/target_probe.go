package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
)

func newTargetTest(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "test [NAME]",
		Short: "Connect to a target and say what is there",
		Long: `Connect to a target as sync does, and say which host answered, how much room is
left, and which vault is there. No snapshot is sent: a small probe is stored in
incoming/, read back, and removed where that is allowed. NAME is needed only
when there are several targets.`,
		Example:           "  atobackupd target test laptop",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				t, err := a.Target(name)
				if err != nil {
					return err
				}
				lines, err := a.TestTarget(cmd.Context(), t)
				if err != nil {
					return err
				}
				return c.emit(map[string]any{"target": t.Name, "found": lines}, func(w io.Writer) {
					for _, line := range lines {
						fmt.Fprintf(w, "%s: %s\n", t.Name, line)
					}
				})
			})
		},
	}
}
