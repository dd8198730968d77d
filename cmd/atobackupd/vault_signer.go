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
