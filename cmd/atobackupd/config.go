package main

import (
	"github.com/spf13/cobra"
)

func newConfig(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "config",
		GroupID: groupInstall,
		Short:   "Check and show the configuration",
		Long: `Check and show the configuration. What each key means is in
atobackupd.toml(5) and in the comments of config.example.toml.`,
		Example: "  atobackupd config check\n  atobackupd config show",
	})
	cmd.AddCommand(newConfigCheck(c), newConfigCheckAccess(c), newConfigShow(c))
	return cmd
}
