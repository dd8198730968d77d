package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
)

func newVaultInit(c *cli) *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Accept a target's vault as it is, or prepare a directory for one",
		Long: `On the host: accept the vault that is on a target now, or begin one there. It
is needed only when the vault was replaced on purpose; the first sync makes a
vault by itself.

On the second machine, with --dir: make the directories that an append-only
account cannot make. With --signer, the host's public signing key, it also lays
vault.json, README.txt and recover.py, and the vault's own directory need not
be writable for the account; without, the host's first sync adds them. Run on
an older vault it adds the directories that are missing.`,
		Example: "  atobackupd vault init --target laptop\n  atobackupd vault init --dir /home/atobackup/vault",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.dir != "" {
				info, err := app.InitVaultDir(cmd.Context(), f.dir, f.signers)
				if err != nil {
					return err
				}
				return c.emit(map[string]string{"dir": f.dir, "vault_id": info.ID}, func(w io.Writer) {
					if info.ID == "" {
						fmt.Fprintf(w, "%s is ready: the host's first sync makes the vault\n", f.dir)
						return
					}
					fmt.Fprintf(w, "%s is vault %s of the signer %s\n", f.dir, info.ID, info.Signer)
				})
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				t, err := a.Target(f.target)
				if err != nil {
					return err
				}
				info, err := a.InitVault(cmd.Context(), t)
				if err != nil {
					return err
				}
				return c.emit(info, func(w io.Writer) { fmt.Fprintf(w, "target %s is vault %s\n", t.Name, info.ID) })
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	return cmd
}
