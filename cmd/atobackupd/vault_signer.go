package main

import (
	"github.com/spf13/cobra"
)

func newVaultSigner(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "signer",
		Short: "Whose snapshots this machine believes",
		Long: `Whose snapshots this machine believes, in a vault that lies in a directory. The
list is this machine's own, never the vault's: the first signer is pinned at
first use, as known_hosts pins a host.`,
		Example: "  atobackupd vault signer list --dir /home/atobackup/vault",
	})
	cmd.AddCommand(newVaultSignerList(c), newVaultSignerAdd(c))
	return cmd
}
