package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

func newVaultRestore(c *cli) *cobra.Command {
	var f vaultFlags
	var identity, to string
	var validate bool
	cmd := &cobra.Command{
		Use:   "restore STAMP|PUSH|latest --identity FILE --to DIR",
		Short: "Fetch a snapshot from the vault into a directory",
		Long: `Fetch a snapshot from the vault, decrypt it and lay it out in a directory that
does not exist yet. Every file is compared with its signed digest: it is byte
for byte what was validated when the snapshot was made. Nothing live is
touched; to put it in place on the host use
` + "`atobackupd restore STAMP --from TARGET`.",
		Example:           "  atobackupd vault restore latest --dir ./vault --identity key.txt --to restored",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completeStored(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			if identity == "" || to == "" {
				return &failure.Error{Op: "vault restore", Kind: failure.Usage,
					Err: errors.New("--identity and --to are both needed"), Hint: "e.g. --identity key.txt --to " +
						"restored"}
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				return c.fetchFromVault(cmd.Context(), v, args[0], identity, to, validate)
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "the age or ssh secret key `file`")
	cmd.Flags().StringVar(&to, "to", "", "the `directory` to make")
	cmd.Flags().BoolVar(&validate, "validate", false, "check the databases in it once more")
	_ = cmd.MarkFlagDirname("to")
	return cmd
}

// fetchFromVault lays a snapshot of a vault out in a new directory.
func (c *cli) fetchFromVault(ctx context.Context, v *app.Vault, name, identity, to string, validate bool) error {
	heapFloor.Store(restoreHeap)
	start := time.Now()
	identities, err := c.identities(identity)
	if err != nil {
		return err
	}
	stored, warnings, err := v.Restore(ctx, name, identities, to, true, c.progress.update)
	for _, warning := range warnings {
		c.progress.line(c.stderr, "atobackupd: warning: "+warning)
	}
	if err != nil {
		return err
	}
	took := time.Since(start)
	doc := map[string]any{"stamp": stored.Stamp, "push": stored.Push, "to": to,
		"warnings": append([]string{}, warnings...), "duration_ms": took.Milliseconds()}
	result := snapshot.Result{Valid: true}
	if validate {
		if result, err = snapshot.ValidateDir(ctx, to, string(stored.Stamp), snapshot.ValidateOptions{}); err != nil {
			return err
		}
		doc["valid"], doc["errors"], doc["warnings"] = result.Valid, result.Errors, append(warnings, result.Warnings...)
	}
	if err := c.emit(doc, func(w io.Writer) {
		fmt.Fprintf(w, "restored %s to %s in %.1fs, every digest right\n", stored.Stamp, to, took.Seconds())
		if validate {
			printResult(w, result, c.width())
		}
	}); err != nil {
		return err
	}
	return invalid(result)
}
