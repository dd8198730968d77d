package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultVerify(c *cli) *cobra.Command {
	var f vaultFlags
	var subset string
	cmd := &cobra.Command{
		Use:   "verify [STAMP|latest]",
		Short: "Check signatures and digests; needs no key",
		Long: `Check the signature of every snapshot in the vault, or of one, and the digest of
everything that it needs. This needs no secret key, so the machine that holds
the vault can do it on a timer. Exits 3 when anything is wrong.`,
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
			return c.withVault(cmd.Context(), &f, func(v *app.VaultAccess) error {
				return c.verifyVault(cmd.Context(), v, name, fraction)
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
		return 0, &failure.Error{Op: "vault verify", Subject: "--read-data-subset " + text, Kind: failure.Usage, Err: errors.New("want a part such as 10%")}
	}
	return percent / 100, nil
}

// verifyVault re-reads one snapshot of a vault, or all where name is empty.
func (c *cli) verifyVault(ctx context.Context, v *app.VaultAccess, name string, fraction float64) error {
	list, warnings, err := v.List(ctx)
	if err != nil {
		return err
	}
	if name != "" {
		s, err := v.Find(ctx, name)
		if err != nil {
			return err
		}
		list = []offsite.Stored{s}
	}
	results := []offsite.Verification{}
	known := make(map[string]string)
	var bad []string
	for _, s := range list {
		var read int64
		result, err := v.Verify(ctx, s, offsite.VerifyOptions{Signer: v.Signer, Fraction: fraction, Known: known, Progress: func(n int64) {
			read += n
			c.progress.update("verify "+string(s.Stamp), read, 0)
		}})
		if err != nil {
			return err
		}
		results = append(results, result)
		if !result.Valid {
			bad = append(bad, string(s.Stamp))
		}
	}
	doc := map[string]any{
		"vault_id": v.Info.ID, "signer": v.Signer, "signer_pinned": v.Pinned,
		"snapshots": results, "warnings": append([]string{}, warnings...),
	}
	err = c.emit(doc, func(w io.Writer) {
		for _, r := range results {
			verdict := "valid"
			if !r.Valid {
				verdict = "DAMAGED"
			}
			fmt.Fprintf(w, "%s  %s  read %s\n", r.Stamp, verdict, humanize.IBytes(uint64(r.Bytes)))
			for _, e := range r.Errors {
				fmt.Fprintln(w, "  error:", e)
			}
		}
		for _, warning := range warnings {
			fmt.Fprintln(w, "warning:", warning)
		}
	})
	if err == nil && len(bad) > 0 {
		err = &failure.Error{Op: "vault verify", Subject: v.Name, Kind: failure.Invalid, Err: fmt.Errorf("damaged: %s", strings.Join(bad, ", ")), Hint: "the other snapshots can still be restored; check the disk that holds the vault"}
	}
	return err
}
