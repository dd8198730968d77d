package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
)

func newScrub(c *cli) *cobra.Command {
	var all, repair bool
	var r app.RepairRequest
	cmd := &cobra.Command{
		Use:     "scrub",
		GroupID: groupDaily,
		Short:   "Re-validate stored snapshots, oldest check first, and heal them",
		Long: `Re-validate stored snapshots, least recently checked first, until
schedule.scrub_max_bytes were read. Exits 3 while one that was good is not
valid.

With --repair nothing is re-validated. It says, for every snapshot that is no
longer valid or for one, which files are damaged and where good copies of them
lie: in other snapshots of this machine, or with --from in a vault. With
--confirm it puts them in place. A snapshot that is gone as a whole comes back
from a vault: name it.`,
		Example: "  atobackupd scrub\n  atobackupd scrub --repair\n  atobackupd scrub --repair 20260407T060000Z " +
			"--from laptop --identity key.txt",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkScrubFlags(cmd, args, repair, all); err != nil {
				return err
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				if repair {
					if len(args) > 0 {
						var err error
						if r.Stamp, err = stampOf(cmd.Context(), a, args[0]); err != nil {
							return err
						}
					}
					return c.repair(cmd, a, r)
				}
				bounds := app.ScrubBounds{Bytes: a.Config.Schedule.ScrubMaxBytes.Bytes()}
				if all {
					bounds = app.ScrubBounds{}
				}
				return c.scrub(cmd, a, bounds)
			})
		},
		ValidArgsFunction: c.completeStamps,
	}
	cmd.Flags().BoolVar(&all, "all", false, "every snapshot, however much there is to read")
	cmd.Flags().BoolVar(&repair, "repair", false, "say what would heal the snapshots that are no longer valid")
	cmd.Flags().BoolVar(&r.Confirm, "confirm", false, "with --repair: do it")
	cmd.Flags().StringVar(&r.From, "from", "", "with --repair: a configured `target` whose vault has good copies")
	cmd.Flags().StringVar(&r.Identity, "identity", "", "with --from: the `file` with the secret key")
	cmd.Flags().StringVar(&r.Signer, "signer", "",
		"with --from: the `key` from the recovery sheet that must have signed it")
	_ = cmd.RegisterFlagCompletionFunc("from", c.completeTargets)
	return cmd
}

func checkScrubFlags(cmd *cobra.Command, args []string, repair, all bool) error {
	usage := func(text string) error {
		return &failure.Error{Op: "scrub", Kind: failure.Usage, Err: errors.New(text)}
	}
	if repair && all {
		return usage("--all is about checking, --repair about healing")
	}
	if repair && len(args) > 0 {
		return checkStamp(args[0])
	}
	if len(args) > 0 {
		return usage("a stamp goes with --repair; to check one snapshot: atobackupd validate " + args[0])
	}
	for _, name := range []string{"confirm", "from", "identity", "signer"} {
		if cmd.Flags().Changed(name) && !repair {
			return usage("--" + name + " goes with --repair")
		}
	}
	return nil
}

func (c *cli) scrub(cmd *cobra.Command, a *app.App, bounds app.ScrubBounds) error {
	doc, err := a.Scrub(cmd.Context(), time.Now(), bounds)
	c.progress.finish()
	if emitErr := c.emit(doc, func(w io.Writer) {
		for _, r := range doc.Checked {
			printResult(w, r, c.width())
		}
		fmt.Fprintf(w, "checked %d, %d left for the next run\n", len(doc.Checked), doc.Left)
	}); emitErr != nil {
		return emitErr
	}
	return err
}

func (c *cli) repair(cmd *cobra.Command, a *app.App, r app.RepairRequest) error {
	doc, err := a.Repair(cmd.Context(), time.Now(), r)
	c.progress.finish()
	if emitErr := c.emit(doc, func(w io.Writer) { printRepairs(w, doc) }); emitErr != nil {
		return emitErr
	}
	return err
}

func printRepairs(w io.Writer, doc app.Repaired) {
	for _, r := range doc.Repairs {
		fmt.Fprintf(w, "%s\n", r.Stamp)
		for _, f := range r.Files {
			switch source := f.Source; {
			case source == "" && r.Vault != "" && !doc.Confirmed:
				fmt.Fprintf(w, "  %s: perhaps from the vault of %s\n", f.Why, r.Vault)
			case source == "":
				fmt.Fprintf(w, "  %s: no good copy is known\n", f.Why)
			default:
				fmt.Fprintf(w, "  %s: from %s\n", f.Why, source)
			}
		}
		switch {
		case r.Error != "":
			fmt.Fprintln(w, "  cannot be healed:", r.Error)
		case r.Result != nil && r.Result.Valid:
			fmt.Fprintln(w, "  healed: it validates again")
		case r.Result != nil:
			fmt.Fprintln(w, "  not healed:", r.Result.Errors)
		case r.Vault != "":
			fmt.Fprintf(w, "  the vault of %s holds this snapshot\n", r.Vault)
		}
	}
	if len(doc.Repairs) == 0 {
		fmt.Fprintln(w, "nothing to repair: every snapshot was valid when it was last checked")
	}
}
