package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/snapshot"
)

func newVaultLs(c *cli) *cobra.Command {
	var f vaultFlags
	var identity string
	cmd := &cobra.Command{
		Use:   "ls STAMP|PUSH|latest --identity FILE",
		Short: "List the files of a snapshot in the vault",
		Long: `List the files of a snapshot in the vault, as its signed and encrypted manifest
has them. No pack is read.`,
		Example:           "  atobackupd vault ls latest --dir ./vault --identity key.txt",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completeStored(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			identities, err := c.identities(identity)
			if err != nil {
				return err
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				stored, entries, err := v.Files(cmd.Context(), args[0], identities)
				if err != nil {
					return err
				}
				files := []snapshot.File{}
				for _, e := range entries {
					files = append(files, e.File)
				}
				doc := map[string]any{"stamp": stored.Stamp, "push": stored.Push, "files": files}
				return c.emit(doc, func(w io.Writer) { printFiles(w, files, c.width()) })
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "the age or ssh secret key `file`")
	return cmd
}
