package main

import (
	"github.com/spf13/cobra"
)

func newTarget(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "target",
		GroupID: groupOffsite,
		Short:   "Trust and test a target",
		Long: `Trust and test a target: the first two steps after an [[offsite]] table was
written. Without a host key that was trusted there is no connection.`,
		Example: "  atobackupd target trust laptop\n  atobackupd target test laptop",
	})
	cmd.AddCommand(newTargetTrust(c), newTargetTest(c))
	return cmd
}
