package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/setup"
)

// newConfigCheckAccess is what `config check` runs as the service's user.
func newConfigCheckAccess(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    setup.CheckAccessCommand,
		Hidden: true,
		Short:  "Check what this user may read and write",
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			report, err := setup.CheckAccess(cmd.Context(), cfg)
			return c.emitWith(err, report, func(w io.Writer) { printConfigReport(w, cfg, report, c.width()) })
		},
	}
}
