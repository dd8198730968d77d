package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
)

func newDiff(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "diff A [B|live]",
		GroupID: groupDaily,
		Short:   "Compare a snapshot with another one or with the live store",
		Long: `Compare a snapshot with another one or, by default, with the live store: tables
whose rows differ in number, entries of the registry (such as projects) that
were added, removed or changed, and files. Files of two snapshots are compared
by digest, Chroma's live files by size and time; Chroma is left out where only
one side has it. Exits 0 whether or not anything differs.`,
		Example: "  atobackupd diff latest\n  atobackupd diff 20260406T060000Z 20260407T060000Z",
		Args:    cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string,
			cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return c.completeStamps(cmd, args, toComplete)
			case 1:
				stamps, how := c.completeStamps(cmd, nil, toComplete)
				return append([]string{app.Live}, stamps...), how
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				to := app.Live
				if len(args) == 2 {
					to = args[1]
				}
				doc, err := a.Diff(cmd.Context(), args[0], to)
				if err != nil {
					return err
				}
				return c.emit(doc, func(w io.Writer) { printDiff(w, doc, c.width()) })
			})
		},
	}
}

func printDiff(w io.Writer, d app.Compared, width int) {
	fmt.Fprintf(w, "from %s to %s\n", d.From, d.To)
	if d.Empty() {
		fmt.Fprintln(w, "nothing differs")
	}
	tables := newTable(column{title: "TABLE", wrap: true}, column{title: "FROM", right: true},
		column{title: "TO", right: true}, column{title: "CHANGE", right: true, drop: 1})
	for _, t := range d.Tables {
		tables.row(t.Name, rows(t.From), rows(t.To), fmt.Sprintf("%+d", valueOf(t.To)-valueOf(t.From)))
	}
	tables.print(w, width)
	for _, e := range d.Registry {
		fmt.Fprintf(w, "registry: %s: %s\n", escape.String(e.Key+suffixed(" ", e.Name)), e.Change)
	}
	files := newTable(column{title: "FILE", wrap: true}, column{title: "CHANGE"}, column{title: "FROM", right: true},
		column{title: "TO", right: true})
	for _, f := range d.Files {
		files.row(f.Path, f.Change, size(f.FromBytes), size(f.ToBytes))
	}
	files.print(w, width)
	if !d.ChromaCompared {
		fmt.Fprintln(w, "Chroma was not compared: not both sides have it")
	}
}

func suffixed(gap, s string) string {
	if s == "" {
		return ""
	}
	return gap + s
}

func rows(n *int64) string {
	if n == nil {
		return "none"
	}
	return strconv.FormatInt(*n, 10)
}

func size(n *int64) string {
	if n == nil {
		return "none"
	}
	return humanize.IBytes(uint64(*n))
}

func valueOf(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
