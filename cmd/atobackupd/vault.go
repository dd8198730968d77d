package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// vaultFlags say which vault a command means.
type vaultFlags struct {
	target, dir, signer string
}

func (f *vaultFlags) register(c *cli, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.target, "target", "", "a configured `target`; needed only when there are several")
	cmd.Flags().StringVar(&f.dir, "dir", "", "a vault in this `directory`, with no configuration")
	_ = cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	_ = cmd.MarkFlagDirname("dir")
}

func (f *vaultFlags) registerSigner(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.signer, "signer", "", "the `key` from the recovery sheet that must have signed it")
}

// open opens the vault that the flags name, and tells when nothing but the
// vault itself vouches for its signer.
func (f *vaultFlags) open(ctx context.Context, c *cli) (v *app.VaultAccess, done func(), err error) {
	if f.dir != "" && f.target != "" {
		return nil, nil, &failure.Error{Op: "vault", Kind: failure.Usage, Err: errors.New("--dir and --target exclude each other")}
	}
	closeApp := func() {}
	if f.dir != "" {
		v, err = app.OpenVaultDir(ctx, f.dir, f.signer)
	} else {
		var a *app.App
		if a, err = c.open(ctx, false); err != nil {
			return nil, nil, err
		}
		closeApp = func() { a.Close() }
		t, targetErr := a.Target(f.target)
		if targetErr != nil {
			closeApp()
			return nil, nil, targetErr
		}
		v, err = a.OpenVaultTarget(ctx, t, f.signer)
	}
	if err != nil {
		closeApp()
		return nil, nil, err
	}
	if !v.Pinned {
		c.progress.line(c.stderr, "atobackupd: the signer is the vault's own word; to prove who wrote it give --signer from the recovery sheet")
	}
	return v, func() { v.Close(); closeApp() }, nil
}

func newVault(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "vault",
		GroupID: groupOffsite,
		Short:   "Look into, verify, restore from and prune an encrypted copy",
		Long: `Work with the vault of a configured target, or with one that lies in a directory
of this machine (--dir): on the second machine itself no configuration is
needed.`,
		Example: `  atobackupd vault list --target laptop
  atobackupd vault verify --dir /home/atobackup/vault`,
	}
	cmd.AddCommand(newVaultList(c), newVaultVerify(c), newVaultRestore(c), newVaultDrill(c), newVaultPrune(c), newVaultRebase(c), newVaultInit(c))
	return cmd
}

func newVaultList(c *cli) *cobra.Command {
	var f vaultFlags
	var identity string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the snapshots in the vault, oldest first",
		Long: `List the snapshots in the vault that its signer has signed, oldest first. With
--identity, say of each whether that key opens it, and which keys do: only the
encrypted manifests name them.`,
		Example: "  atobackupd vault list --dir /home/atobackup/vault\n  atobackupd vault list --identity key.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, done, err := f.open(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer done()
			list, warnings, err := v.Proven(cmd.Context(), v.Signer)
			if err != nil {
				return err
			}
			type entry struct {
				Push offsite.PushID `json:"push"`
				offsite.Info
				Uploaded   time.Time `json:"uploaded"`
				Recipients []string  `json:"recipients,omitempty"` // with --identity: who can open it; none where it cannot
			}
			doc := struct {
				Vault     offsite.VaultInfo `json:"vault"`
				Snapshots []entry           `json:"snapshots"`
				Warnings  []string          `json:"warnings"`
			}{v.Info, []entry{}, append([]string{}, warnings...)}
			var who map[offsite.PushID][]string
			if identity != "" {
				if who, err = v.WhoCanOpen(cmd.Context(), list, identity); err != nil {
					return err
				}
			}
			for _, s := range list {
				doc.Snapshots = append(doc.Snapshots, entry{s.Push, s.Info, s.Uploaded.UTC(), who[s.Push]})
			}
			return c.emit(doc, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "STAMP\tKIND\tCHROMA\tNUMBER\tARRIVED\tPUSH")
				for _, s := range list {
					fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Stamp, s.Kind, yes(s.Full), s.Seq, s.Uploaded.UTC().Format("2006-01-02 15:04Z"), s.Push)
				}
				t.Flush()
				if identity != "" {
					printWho(w, list, who)
				}
				for _, warning := range warnings {
					fmt.Fprintln(w, "warning:", warning)
				}
				fmt.Fprintf(w, "%d snapshots in vault %s of host %s\n", len(list), v.Info.ID, v.Info.Host)
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "a secret key `file`: say what it opens, and who else can")
	return cmd
}

// printWho groups snapshots by the keys that open them.
func printWho(w io.Writer, list []offsite.Stored, who map[offsite.PushID][]string) {
	last := ""
	for _, s := range list {
		keys := "this identity does not open it"
		if recipients, ok := who[s.Push]; ok {
			keys = "opened by " + strings.Join(recipients, ", ")
		}
		if keys != last {
			fmt.Fprintf(w, "from %s: %s\n", s.Stamp, keys)
			last = keys
		}
	}
}

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
			v, done, err := f.open(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer done()
			list, warnings, err := v.List(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				s, err := v.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				list = []offsite.Stored{s}
			}
			return c.verify(cmd.Context(), v, list, warnings, fraction)
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

func (c *cli) verify(ctx context.Context, v *app.VaultAccess, list []offsite.Stored, warnings []string, fraction float64) error {
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
	doc := map[string]any{"vault_id": v.Info.ID, "signer": v.Signer, "signer_pinned": v.Pinned, "snapshots": results, "warnings": append([]string{}, warnings...)}
	err := c.emit(doc, func(w io.Writer) {
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

func newVaultRestore(c *cli) *cobra.Command {
	var f vaultFlags
	var identity, to string
	var validate bool
	cmd := &cobra.Command{
		Use:   "restore STAMP|latest --identity FILE --to DIR",
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
				return &failure.Error{Op: "vault restore", Kind: failure.Usage, Err: errors.New("--identity and --to are both needed"), Hint: "e.g. --identity key.txt --to restored"}
			}
			v, done, err := f.open(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer done()
			setGCPercent(restoreGCPercent)
			start := time.Now()
			stored, err := v.Restore(cmd.Context(), args[0], identity, to, c.progress.update)
			if err != nil {
				return err
			}
			took := time.Since(start)
			doc := map[string]any{"stamp": stored.Stamp, "to": to, "duration_ms": took.Milliseconds()}
			result := snapshot.Result{Valid: true}
			if validate {
				if result, err = snapshot.ValidateDir(cmd.Context(), to, string(stored.Stamp), snapshot.ValidateOptions{}); err != nil {
					return err
				}
				doc["valid"], doc["errors"], doc["warnings"] = result.Valid, result.Errors, result.Warnings
			}
			if err := c.emit(doc, func(w io.Writer) {
				fmt.Fprintf(w, "restored %s to %s in %.1fs, every digest right\n", stored.Stamp, to, took.Seconds())
				if validate {
					printResult(w, result)
				}
			}); err != nil {
				return err
			}
			return invalid(result)
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

func newVaultPrune(c *cli) *cobra.Command {
	var f vaultFlags
	var dryRun, confirm bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Thin the vault out by its own policy; needs no key",
		Long: `Remove the snapshots that the policy in vault.json does not keep, and the packs
that no snapshot has named for a week. Meant for the machine that holds an
append-only vault, from a timer.`,
		Example: "  atobackupd vault prune --dir /home/atobackup/vault --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, done, err := f.open(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer done()
			policy, err := v.VaultPolicy()
			if err != nil {
				return err
			}
			pruned, err := v.Prune(cmd.Context(), time.Now(), offsite.PruneOptions{Policy: policy, Signer: v.Signer, DryRun: dryRun, Confirm: confirm})
			doc := vaultPruneDocument(pruned, dryRun)
			return c.emitWith(err, doc, func(w io.Writer) { printVaultPrune(w, doc) })
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan and remove nothing")
	cmd.Flags().BoolVar(&confirm, "confirm", false, "carry out a plan that is held")
	return cmd
}

// vaultPruned is the document of `vault prune`: that of `prune`, and the packs.
type vaultPruned struct {
	app.PrunePlan
	Trashed  []string `json:"trashed"`
	Restored []string `json:"restored"`
	Removed  []string `json:"removed"`
}

func vaultPruneDocument(p offsite.Pruned, dryRun bool) vaultPruned {
	doc := vaultPruned{
		PrunePlan: app.PrunePlan{DryRun: dryRun, Keep: []app.PruneVerdict{}, Delete: []app.PruneVerdict{}, Deleted: []string{},
			Held: p.Decision.Held, Why: p.Decision.HeldReason, Warnings: append([]string{}, p.Warnings...)},
		Trashed: append([]string{}, p.Trashed...), Restored: append([]string{}, p.Restored...), Removed: append([]string{}, p.Removed...),
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

func printVaultPrune(w io.Writer, doc vaultPruned) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range doc.Keep {
		fmt.Fprintf(t, "%s\tkeep\t%s\n", v.Stamp, strings.Join(v.Reasons, "; "))
	}
	for _, v := range doc.Delete {
		fmt.Fprintf(t, "%s\tDELETE\t%s\n", v.Stamp, strings.Join(v.Reasons, "; "))
	}
	t.Flush()
	for _, warning := range doc.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
	if doc.Held {
		fmt.Fprintf(w, "held: %s; --confirm carries it out\n", doc.Why)
	}
	if !doc.DryRun {
		fmt.Fprintf(w, "deleted %d snapshots; %d packs moved to trash, %d moved back, %d objects removed\n", len(doc.Deleted), len(doc.Trashed), len(doc.Restored), len(doc.Removed))
	}
}

func newVaultRebase(c *cli) *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "rebase",
		Short: "Send the newest snapshots anew, in full",
		Long: `Send the newest full snapshot, and the newest one if that is another, without
referring to anything that was sent before. sync does so by itself when the
recipients change or old patches outweigh their base; by hand it is needed when
what lies on the target is no longer trusted.`,
		Example: "  atobackupd vault rebase --target laptop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer a.Close()
			t, err := a.Target(target)
			if err != nil {
				return err
			}
			pushed, err := a.RebaseVault(cmd.Context(), t)
			doc := map[string]any{"target": t.Name, "pushed": append([]offsite.Pushed{}, pushed...)}
			return c.emitWith(err, doc, func(w io.Writer) {
				for _, p := range pushed {
					fmt.Fprintf(w, "%s: pushed %s in %d packs, %s\n", t.Name, p.Stamp, p.Packs, humanize.IBytes(uint64(p.Bytes)))
				}
			})
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "a configured `target`; needed only when there are several")
	_ = cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	return cmd
}

func newVaultInit(c *cli) *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Accept a target's vault as it is now, or prepare a directory for one",
		Long: `On the host: accept the vault that is on a target now, or begin one there. It is
needed only when the vault was replaced on purpose; the first sync makes a vault
by itself.

On the second machine, with --dir: make the directories that an append-only
account cannot make. The vault is new until the host's first sync.`,
		Example: "  atobackupd vault init --target laptop\n  atobackupd vault init --dir /home/atobackup/vault",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.dir != "" {
				if err := offsite.MakeDirectories(f.dir); err != nil {
					return err
				}
				return c.emit(map[string]string{"dir": f.dir}, func(w io.Writer) {
					fmt.Fprintf(w, "%s is ready: the host's first sync makes the vault\n", f.dir)
				})
			}
			a, err := c.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer a.Close()
			t, err := a.Target(f.target)
			if err != nil {
				return err
			}
			info, err := a.InitVault(cmd.Context(), t)
			if err != nil {
				return err
			}
			return c.emit(info, func(w io.Writer) { fmt.Fprintf(w, "target %s is vault %s\n", t.Name, info.ID) })
		},
	}
	f.register(c, cmd)
	return cmd
}
