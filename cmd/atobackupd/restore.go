package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/restore"
)

func newRestore(c *cli) *cobra.Command {
	var r app.RestoreRequest
	var resume, abort bool
	cmd := &cobra.Command{
		Use:     "restore STAMP|latest",
		GroupID: groupRecovery,
		Short:   "Put a snapshot back over the live store",
		Long: `Put a snapshot back: the database, the registry and, when the snapshot holds it,
Chroma. Everything is staged and checked beside its destination and then swapped
in by renames; owners and modes stay what they were. What was live before is
saved afterwards (the pre-restore snapshot, your way back). The service must be
stopped; with --manage-service it is, for the moment of the swap.

A restore that was interrupted is finished with --resume or taken back with
--abort.`,
		Example: `  atobackupd restore latest --dry-run
  atobackupd restore 20260407T060000Z --confirm-service-stopped
  atobackupd restore 20260407T060000Z --manage-service
  atobackupd restore latest --from laptop --identity key.txt --manage-service
  atobackupd restore latest --to restored`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeStamps,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkRestoreArgs(args, r, resume, abort); err != nil {
				return err
			}
			c.endsRestore = resume || abort
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				if resume || abort {
					result, err := a.ContinueRestore(cmd.Context(), abort, r.Options)
					return c.emitRestored(err, result)
				}
				r.Name = args[0]
				result, plan, err := a.Restore(cmd.Context(), r)
				if plan != nil {
					if emitErr := c.emit(plan,
						func(w io.Writer) { printRestorePlan(w, plan, c.width()) }); emitErr != nil {
						return emitErr
					}
					return err
				}
				if err != nil && len(result.Errors) == 0 {
					result.Errors = append(result.Errors, err.Error())
				}
				return c.emitRestored(err, result)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.ConfirmServiceStopped, "confirm-service-stopped", false, "you have stopped the service")
	f.BoolVar(&r.ManageService, "manage-service", false,
		"stop the service, restore, start it, check it, and roll back if it is not well")
	f.BoolVar(&r.DryRun, "dry-run", false, "say what would be replaced, and touch nothing")
	f.BoolVar(&r.NoPreSnapshot, "no-pre-snapshot", false,
		"keep no snapshot of what was live before: there is no way back then")
	f.BoolVar(&r.NoChroma, "no-chroma", false, "leave the live Chroma directory alone")
	f.BoolVar(&r.ForceChroma, "chroma", false, "restore Chroma even where the metadata do not claim that it is there")
	f.StringVar(&r.From, "from", "", "fetch it from the vault of this `target`")
	f.StringVar(&r.Identity, "identity", "", "the secret key `file` that opens the vault, with --from")
	f.StringVar(&r.Signer, "signer", "", "the `key` from the recovery sheet that must have signed it, with --from")
	f.StringVar(&r.To, "to", "", "lay it out in this `directory` and touch nothing live")
	f.BoolVar(&r.AllowInvalid, "allow-invalid", false, "restore a snapshot that does not validate")
	f.BoolVar(&r.AcceptOtherDeployment, "accept-other-deployment", false,
		"restore what another host or other paths were saved from")
	f.BoolVar(&r.Force, "force", false,
		"go on although files are open or owners cannot be kept; with --abort, give up what cannot be put back")
	f.BoolVar(&resume, "resume", false, "finish the restore that was interrupted")
	f.BoolVar(&abort, "abort", false, "take the restore back that was interrupted")
	_ = cmd.RegisterFlagCompletionFunc("from", c.completeTargets)
	_ = cmd.MarkFlagDirname("to")
	return cmd
}

func checkRestoreArgs(args []string, r app.RestoreRequest, resume, abort bool) error {
	usage := func(text, hint string) error {
		return &failure.Error{Op: "restore", Kind: failure.Usage, Err: errors.New(text), Hint: hint}
	}
	switch {
	case resume && abort:
		return usage("--resume and --abort exclude each other", "")
	case (resume || abort) && len(args) > 0:
		return usage("--resume and --abort take no stamp", "they go on with the restore that was interrupted")
	case resume || abort:
		return nil
	case len(args) == 0:
		return usage("no snapshot was named", "name a stamp of `atobackupd list`, or latest")
	case r.NoChroma && r.ForceChroma:
		return usage("--chroma and --no-chroma exclude each other", "")
	case r.To != "" && r.ManageService:
		return usage("--to touches nothing live, so --manage-service has nothing to do", "")
	}
	return nil
}

// emitRestored writes what came of a restore. One that failed has its warnings too:
// what it moved aside is named nowhere else.
func (c *cli) emitRestored(err error, r restore.Result) error {
	if err != nil && !c.json {
		c.progress.finish()
		printWarnings(c.stderr, r.Warnings)
	}
	return c.emitWith(err, r, func(w io.Writer) { printRestored(w, r) })
}

func printRestored(w io.Writer, r restore.Result) {
	if r.Stamp == "" { // no journal stood
		printWarnings(w, r.Warnings)
		return
	}
	if !r.DBRestored && !r.RegistryRestored && !r.ChromaRestored {
		fmt.Fprintf(w, "put back: the live store is what it was before the restore of %s\n", r.Stamp)
		printWarnings(w, r.Warnings)
		return
	}
	fmt.Fprintf(w, "restored %s from %s in %.1fs: database %s, registry %s, chroma %s\n", r.Stamp, r.Source,
		float64(r.DurationMS)/1000,
		yesNo(r.DBRestored), yesNo(r.RegistryRestored), yesNo(r.ChromaRestored))
	if r.DBRestored && !r.RestoredIntegrityOK {
		fmt.Fprintln(w, "THE RESTORED DATABASE IS NOT SOUND: do not start the service; go back, or restore another "+
			"snapshot")
	}
	if r.PreRestoreSnapshot != "" {
		fmt.Fprintf(w, "what was live before is %s; to go back: %s\n", r.PreRestoreSnapshot,
			r.WayBack("--confirm-service-stopped"))
	}
	printWarnings(w, r.Warnings)
}

func printWarnings(w io.Writer, warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func printRestorePlan(w io.Writer, p *restore.Plan, width int) {
	fmt.Fprintf(w, "would restore %s from %s:\n", p.Stamp, p.Source)
	t := newTable(column{title: "ARTIFACT"}, column{title: "DESTINATION", wrap: true}, column{title: "IS", drop: 1},
		column{title: "REPLACED"}, column{title: "BY"}, column{title: "OWNER", drop: 3}, column{title: "MODE", drop: 2})
	for _, i := range p.Items {
		t.row(i.Artifact, i.Destination, fmt.Sprint(i.Layout), amount(i.OldBytes, i.OldFiles),
			amount(i.NewBytes, i.NewFiles),
			fmt.Sprintf("%d:%d", i.UID, i.GID), fmt.Sprint(i.Mode))
	}
	t.print(w, width)
	for _, s := range p.Space {
		fmt.Fprintf(w, "space on %s: %s needed, %s free\n", s.Path, humanize.IBytes(uint64(s.Need)),
			humanize.IBytes(uint64(s.Free)))
	}
	printWarnings(w, p.Warnings)
	for i, refusal := range p.Refusals {
		if i > 0 { // the first is the error that the command ends with
			fmt.Fprintln(w, refusal)
		}
	}
}

func amount(bytes int64, files int) string {
	if files == 1 {
		return humanize.IBytes(uint64(bytes))
	}
	return humanize.IBytes(uint64(bytes)) + " in " + count(files, "file")
}
