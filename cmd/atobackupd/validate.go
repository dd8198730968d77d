package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

func newValidate(c *cli) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "validate [STAMP|latest]",
		GroupID: groupDaily,
		Short:   "Read a snapshot again and check everything in it",
		Long: `Read a snapshot again from disk: the database's integrity, the registry, the
Chroma directory, and every file against its digest. Exits 3 when it is not
valid. Without an argument it checks the latest.`,
		Example:           "  atobackupd validate 20260407T060000Z\n  atobackupd validate --all",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeStamps,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return &failure.Error{Op: "validate", Kind: failure.Usage, Err: fmt.Errorf("--all takes no stamp")}
			}
			// What is found out is remembered, by those who may write.
			a, err := c.open(cmd.Context(), false)
			if err != nil {
				a, err = c.open(cmd.Context(), true)
			}
			if err != nil {
				return err
			}
			defer a.Close()
			if all {
				return c.validateAll(cmd, a)
			}
			name := "latest"
			if len(args) > 0 {
				name = args[0]
			}
			return c.validateOne(cmd, a, name)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every snapshot of this machine")
	return cmd
}

func (c *cli) validateOne(cmd *cobra.Command, a *app.App, name string) error {
	stamp, err := stampOf(cmd.Context(), a, name)
	if err != nil {
		return err
	}
	result, err := a.Validate(cmd.Context(), stamp)
	if err != nil {
		return err
	}
	if err := c.emit(result, func(w io.Writer) { printResult(w, result, c.width()) }); err != nil {
		return err
	}
	return invalid(result)
}

func (c *cli) validateAll(cmd *cobra.Command, a *app.App) error {
	var bad error
	results, err := a.ValidateAll(cmd.Context(), time.Now(), func(result snapshot.Result) {
		if !c.json {
			c.progress.finish()
			printResult(c.people(), result, c.width())
		}
		if err := invalid(result); err != nil {
			bad = err
		}
	})
	if err != nil {
		return err
	}
	if err := c.emit(map[string]any{"results": results}, nil); err != nil {
		return err
	}
	return bad
}

func invalid(result snapshot.Result) error {
	if result.Valid {
		return nil
	}
	hint := "do not restore from it; see `atobackupd list` for others"
	if len(result.Checked) == 0 { // it is not there
		hint = "see `atobackupd list`"
	}
	return &failure.Error{Op: "validate", Subject: result.Stamp, Kind: failure.Invalid,
		Err: fmt.Errorf("not valid: %s", strings.Join(result.Errors, "; ")), Hint: hint}
}

func printResult(w io.Writer, r snapshot.Result, width int) {
	verdict := "valid"
	if !r.Valid {
		verdict = "INVALID"
	}
	hang(w, width, fmt.Sprintf("%s  %s  ", r.Stamp, verdict),
		fmt.Sprintf("checked: %s  (%.1fs)", cmp.Or(strings.Join(r.Checked, ", "), "nothing"),
			float64(r.DurationMS)/1000))
	for _, e := range r.Errors {
		hang(w, width, "  error: ", escape.String(e))
	}
	for _, e := range r.Warnings {
		hang(w, width, "  warning: ", escape.String(e))
	}
}
