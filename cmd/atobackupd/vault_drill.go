package main

import (
	"errors"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
)

func newVaultDrill(c *cli) *cobra.Command {
	var f vaultFlags
	var identity, scratch string
	var queries []string
	cmd := &cobra.Command{
		Use:   "drill [STAMP|latest] --identity FILE",
		Short: "Fetch a snapshot, restore it to a scratch directory, throw it away",
		Long: `Fetch a snapshot (the latest, if none is named) from the vault, decrypt it,
restore it into a scratch directory, check its integrity, its digests and its
row counts, and delete everything. Exits 3 when it does not pass. It proves that
the vault and the key that you hold are enough.`,
		Example:           "  atobackupd vault drill --dir ./vault --identity key.txt",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.completeStored(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			if identity == "" {
				return &failure.Error{Op: "vault drill", Kind: failure.Usage, Err: errors.New("--identity is needed"),
					Hint: "name the secret key file"}
			}
			if scratch != "" {
				abs, err := filepath.Abs(scratch)
				if err != nil {
					return err
				}
				scratch = abs
			}
			name := latest
			if len(args) > 0 {
				name = args[0]
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				identities, err := c.identities(identity)
				if err != nil {
					return err
				}
				result, err := v.Drill(cmd.Context(), name, identities, scratch, queries, version(), c.progress.update)
				return c.emitWith(err, result, func(w io.Writer) { printDrill(w, result) })
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "the age or ssh secret key `file`")
	cmd.Flags().StringVar(&scratch, "scratch", "",
		"a `directory` with room for the snapshot twice (default: the system's for temporary files)")
	cmd.Flags().StringArrayVar(&queries, "query", nil,
		"`SQL` that must be true on the restored database; may be repeated")
	_ = cmd.MarkFlagDirname("scratch")
	return cmd
}
