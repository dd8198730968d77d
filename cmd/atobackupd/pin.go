package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
)

func newPin(c *cli) *cobra.Command {
	return pinCommand(c, "pin", "Keep a snapshot whatever retention says",
		`Mark a snapshot so that prune keeps it, here and on the targets, until
`+"`atobackupd unpin`"+` takes the mark away.`, true)
}

func newUnpin(c *cli) *cobra.Command {
	return pinCommand(c, "unpin", "Let retention decide about a snapshot again",
		`Take the mark of `+"`atobackupd pin`"+` away. The next prune may delete the
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
			if err := checkStamp(args[0]); err != nil {
				return err
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
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
			})
		},
	}
}
