package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
)

func newVaultTrustTimes(c *cli) *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{
		Use:   "trust-times",
		Short: "Say that what lies in the vault now arrived in time",
		Long: `Say that what lies in the vault now arrived in time, whatever its files' times
are: a copied or moved vault has new ones, and prune counts only snapshots that
arrived within 14 days of their stamp. What arrives later is judged as before.`,
		Example: "  atobackupd vault trust-times --dir /new/disk/vault",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.dir == "" {
				return needsDir("vault trust-times")
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				now := time.Now()
				if err := app.TrustTimes(v.Info.ID, now); err != nil {
					return err
				}
				return c.emit(map[string]any{"vault_id": v.Info.ID, "trusted_until": now.UTC()}, func(w io.Writer) {
					fmt.Fprintf(w, "vault %s: what lies there now counts as arrived in time\n", v.Info.ID)
				})
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	return cmd
}

// needsDir is the error of a command that is for the machine that holds the vault.
func needsDir(op string) error {
	return &failure.Error{Op: op, Kind: failure.Usage, Err: errors.New("--dir is needed"),
		Hint: "it is for the machine that holds the vault; the host goes by what it knows of its own pushes"}
}
