package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultPrune(c *cli) *cobra.Command {
	var f vaultFlags
	var dryRun, confirm, now bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Thin the vault out; needs no key",
		Long: `Remove the snapshots that retention does not keep, and the packs that no
snapshot has named for a week and that have lain in trash/ for another. A
configured target is pruned by the configuration; with --dir, on the machine
that holds the vault, by the policy in vault.json, which the host's newest
signed document can lengthen and pin, never shorten.

--now skips the waiting times, to free room at once: say --confirm with it, or
answer the question. A push that is under way then sends again what it loses.`,
		Example: "  atobackupd vault prune --dir /home/atobackup/vault --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				if now && !dryRun && !confirm &&
					!c.confirm("remove what nothing needs at once, without the waiting times?") {
					return &failure.Error{Op: "vault prune", Subject: "--now", Kind: failure.Refused,
						Err: errors.New("it was not confirmed"), Hint: "say --confirm"}
				}
				pruned, err := v.Thin(cmd.Context(), time.Now(),
					offsite.PruneOptions{DryRun: dryRun, Confirm: confirm, Now: now})
				doc := vaultPruneDocument(pruned, dryRun)
				return c.emitWith(err, doc, func(w io.Writer) { printVaultPrune(w, doc, c.width()) })
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan and remove nothing")
	cmd.Flags().BoolVar(&confirm, "confirm", false, "carry out a plan that is held")
	cmd.Flags().BoolVar(&now, "now", false, "skip the waiting times")
	return cmd
}

// vaultPruned is the document of `vault prune`: that of `prune`, and the packs.
type vaultPruned struct {
	app.PrunePlan
	Superseded []offsite.SupersededPush `json:"superseded"`
	Trashed    []string                 `json:"trashed"`
	Restored   []string                 `json:"restored"`
	Removed    []string                 `json:"removed"`
}

func vaultPruneDocument(p offsite.Pruned, dryRun bool) vaultPruned {
	doc := vaultPruned{
		PrunePlan: app.PrunePlan{DryRun: dryRun, Keep: []app.PruneVerdict{}, Delete: []app.PruneVerdict{},
			Deleted: []string{},
			Held:    p.Decision.Held, Why: p.Decision.HeldReason, Warnings: append([]string{}, p.Warnings...)},
		Superseded: append([]offsite.SupersededPush{}, p.Superseded...),
		Trashed:    append([]string{}, p.Trashed...), Restored: append([]string{},
			p.Restored...), Removed: append([]string{}, p.Removed...),
	}
	for _, v := range p.Decision.Keep() {
		doc.Keep = append(doc.Keep, app.PruneVerdict{Stamp: v.Stamp, Reasons: v.Reasons})
	}
	for _, v := range p.Decision.Delete() {
		doc.Delete = append(doc.Delete, app.PruneVerdict{Stamp: v.Stamp, Reasons: v.Reasons})
	}
	for _, stamp := range p.Deleted {
		doc.Deleted = append(doc.Deleted, string(stamp))
	}
	return doc
}

func printVaultPrune(w io.Writer, doc vaultPruned, width int) {
	t := newTable(column{title: "STAMP"}, column{title: "VERDICT"}, column{title: "REASONS", wrap: true})
	for _, v := range doc.Keep {
		t.row(v.Stamp, "keep", strings.Join(v.Reasons, "; "))
	}
	for _, v := range doc.Delete {
		t.row(v.Stamp, "DELETE", strings.Join(v.Reasons, "; "))
	}
	for _, s := range doc.Superseded {
		verdict, until := "keep", "until "+s.Until.UTC().Format("2006-01-02")
		if s.Due {
			verdict, until = "DELETE", ""
		}
		t.row(string(s.Push), verdict, strings.TrimSpace("superseded by "+string(s.By)+" "+until))
	}
	t.print(w, width)
	for _, warning := range doc.Warnings {
		fmt.Fprintln(w, "warning:", escape.String(warning))
	}
	if doc.Held {
		fmt.Fprintf(w, "held: %s; --confirm carries it out\n", doc.Why)
	}
	if !doc.DryRun {
		fmt.Fprintf(w, "deleted %s; %s moved to trash, %d moved back, %s removed\n",
			count(len(doc.Deleted), "snapshot"),
			count(len(doc.Trashed), "pack"), len(doc.Restored), count(len(doc.Removed), "object"))
	}
}
