package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultForget(c *cli) *cobra.Command {
	var f vaultFlags
	var confirm bool
	cmd := &cobra.Command{
		Use:   "forget STAMP|PUSH",
		Short: "Remove one snapshot from the vault",
		Long: `Remove one snapshot from the vault, with all of its pushes, or one push: also
one that is damaged, or that retention does not count. A stamp that the host
forgets is not sent again. The packs that nothing needs any more go by prune,
after the waiting times. An append-only vault forgets only where it lies, with
--dir.`,
		Example:           "  atobackupd vault forget 20260407T060000Z --target laptop",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completeStored(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				if !confirm && !c.confirm("remove "+args[0]+" from the vault?") {
					return &failure.Error{Op: "vault forget", Subject: args[0], Kind: failure.Refused,
						Err: errors.New("it was not confirmed"), Hint: "say --confirm"}
				}
				gone, err := v.ForgetSnapshot(cmd.Context(), args[0])
				doc := map[string]any{"forgotten": append([]offsite.PushID{}, gone...)}
				return c.emitWith(err, doc, func(w io.Writer) {
					for _, push := range gone {
						fmt.Fprintln(w, "removed", push)
					}
				})
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().BoolVar(&confirm, "confirm", false, "do it without asking")
	return cmd
}
