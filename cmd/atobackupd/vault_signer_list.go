package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
)

func newVaultSignerList(c *cli) *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the signers that are believed",
		Long:    "List the public keys that this machine believes to sign for the vault.",
		Example: "  atobackupd vault signer list --dir /home/atobackup/vault",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				doc := map[string]any{"vault_id": v.Info.ID, "signers": v.Signers, "pinned": v.Pinned,
					"vault_says": v.Info.Signer}
				return c.emit(doc, func(w io.Writer) {
					for _, signer := range v.Signers {
						fmt.Fprintln(w, signer)
					}
				})
			})
		},
	}
	f.register(c, cmd)
	return cmd
}
