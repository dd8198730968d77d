package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/failure"
)

func newVaultVerify(c *cli) *cobra.Command {
	var f vaultFlags
	var subset string
	cmd := &cobra.Command{
		Use:   "verify [STAMP|latest]",
		Short: "Check signatures and digests; needs no key",
		Long: `Check the signature of every snapshot in the vault, or of one, and the digest
of everything that it needs; then recover.py, the signed documents, and whether
anything lies there that does not belong. This needs no secret key, so the
machine that holds the vault can do it on a timer: with --dir it leaves a
report in the vault, which the host takes up. What is found on a configured
target is kept, and the next sync mends it. Exits 3 when anything is wrong or
missing, also when there was nothing that could be checked.`,
		Example:           "  atobackupd vault verify --dir /home/atobackup/vault --read-data-subset 10%",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.completeStored(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			fraction, err := parseSubset(subset)
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			bounds := app.VerifyBounds{Fraction: fraction, Name: name}
			if f.dir != "" || len(f.signers) > 0 {
				return nothingToVerify(c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
					doc, err := v.Check(cmd.Context(), bounds, version(), c.progress.update)
					return c.showVerified(doc, err)
				}))
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				t, err := a.Target(f.target)
				if err != nil {
					return err
				}
				doc, err := a.VerifyTarget(cmd.Context(), t, bounds)
				return nothingToVerify(c.showVerified(doc, err))
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&subset, "read-data-subset", "100%", "read only this `part` of the packs, drawn at random")
	return cmd
}

func parseSubset(text string) (float64, error) {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !strings.HasSuffix(text, "%") || percent < 0 || percent > 100 {
		return 0, &failure.Error{Op: "vault verify", Subject: "--read-data-subset " + text, Kind: failure.Usage,
			Err: errors.New("want a part such as 10%")}
	}
	return percent / 100, nil
}

// nothingToVerify turns the error of a vault or a snapshot that is not there, or of
// another vault than was expected, into one of what was verified: nothing there could
// be checked.
func nothingToVerify(err error) error {
	switch failure.KindOf(err) {
	case failure.VaultMismatch, failure.NotFound:
		return &failure.Error{Op: "vault verify", Kind: failure.Invalid, Err: err}
	}
	return err
}

// showVerified prints what a verify of one vault found.
func (c *cli) showVerified(doc app.VerifiedVault, err error) error {
	if err != nil && failure.KindOf(err) != failure.Invalid {
		return err
	}
	emitErr := c.emit(doc, func(w io.Writer) {
		for _, r := range doc.Snapshots {
			verdict := "valid"
			if !r.Valid {
				verdict = "DAMAGED"
			}
			if r.Superseded {
				verdict += " (superseded)"
			}
			fmt.Fprintf(w, "%s  %s  read %s\n", r.Stamp, verdict, humanize.IBytes(uint64(r.Bytes)))
			for _, e := range r.Errors {
				fmt.Fprintln(w, "  error:", escape.String(e))
			}
		}
		if doc.PacksRead < doc.Packs {
			fmt.Fprintf(w, "%d of %d packs were read\n", doc.PacksRead, doc.Packs)
		}
		for _, f := range doc.Findings {
			fmt.Fprintln(w, "finding:", escape.String(fmt.Sprint(f)))
		}
		for _, name := range doc.Strangers {
			fmt.Fprintf(w, "stranger: %q does not belong into a vault\n", name)
		}
		for _, warning := range doc.Warnings {
			fmt.Fprintln(w, "warning:", escape.String(warning))
		}
	})
	return cmp.Or(emitErr, err)
}
