package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
)

func newVaultSignerAdd(c *cli) *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{
		Use:   "add KEY",
		Short: "Believe another signer beside those that are believed",
		Long: `Believe another signer for this vault beside those that are believed already:
the host has lost its signing key for good and signs with a new one. Compare
the key with the one that the host itself shows.`,
		Example: "  atobackupd vault signer add \"$KEY\" --dir /home/atobackup/vault",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.dir == "" {
				return needsDir("vault signer add")
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				if err := app.AddReaderSigner(v.Info.ID, args[0]); err != nil {
					return err
				}
				signers, err := app.ReaderSigners(v.Info.ID)
				if err != nil {
					return err
				}
				return c.emit(map[string]any{"vault_id": v.Info.ID, "signers": signers}, func(w io.Writer) {
					fmt.Fprintf(w, "vault %s: %d signers are believed\n", v.Info.ID, len(signers))
				})
			})
		},
	}
	f.register(c, cmd)
	return cmd
}
