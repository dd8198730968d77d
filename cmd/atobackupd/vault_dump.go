package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultDump(c *cli) *cobra.Command {
	var f vaultFlags
	var identity, output string
	cmd := &cobra.Command{
		Use:   "dump STAMP|PUSH|latest PATH --identity FILE -o FILE|-",
		Short: "Fetch one file of a snapshot from the vault",
		Long: `Fetch one file of a snapshot from the vault, by the path that "vault ls" shows,
e.g. db/atocore.db. Only the packs that hold parts of it are read, and its
digest is compared before the first byte is written.`,
		Example:           "  atobackupd vault dump latest db/atocore.db --identity key.txt -o a.db",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: f.completeStored(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput("vault dump", output, c.json); err != nil {
				return err
			}
			identities, err := c.identities(identity)
			if err != nil {
				return err
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				out := &lazyFile{path: output, stdout: c.rawStdout}
				var stored offsite.Stored
				stored, err := v.Dump(cmd.Context(), args[0], args[1], identities, out)
				if err = out.finish(err); err != nil || output == "-" {
					return err
				}
				doc := map[string]any{"stamp": stored.Stamp, "path": args[1], "output": output, "bytes": out.n}
				return c.emit(doc, func(w io.Writer) {
					fmt.Fprintf(w, "wrote %s of %s to %s, %d bytes\n", args[1], stored.Stamp, output, out.n)
				})
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "the age or ssh secret key `file`")
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `file` to write, or - for the standard output")
	return cmd
}
