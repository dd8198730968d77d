package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
)

func newList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		GroupID: groupDaily,
		Short:   "List the snapshots of this machine, oldest first",
		Long: `List the snapshots of this machine, oldest first: age, kind, whether Chroma is
in it, size, the last verdict on it, and which targets held a copy when they
were last seen. Those on a target are listed by ` + "`atobackupd vault list`" + `.`,
		Example: "  atobackupd list\n  atobackupd list --json | jq -r '.backups[].stamp'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer a.Close()
			now := time.Now()
			catalog, err := a.List(cmd.Context(), now)
			if err != nil {
				return err
			}
			for _, warning := range catalog.Warnings {
				fmt.Fprintln(c.stderr, "warning:", escape.String(warning))
			}
			return c.emit(catalog, func(w io.Writer) { printCatalog(w, catalog, now) })
		},
	}
}

func printCatalog(w io.Writer, catalog app.Catalog, now time.Time) {
	if len(catalog.Backups) == 0 {
		fmt.Fprintf(w, "no snapshots in %s yet; take one with `atobackupd backup`\n", catalog.BackupDir)
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STAMP\tAGE\tKIND\tCHROMA\tSIZE\tEXCLUSIVE\tSTATE\tOFF-SITE")
	var total int64
	for _, b := range catalog.Backups {
		total += b.Bytes
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.Stamp, age(now, b.CreatedAt), escape.String(string(b.Kind)), yes(b.Full), humanize.IBytes(uint64(b.Bytes)), humanize.IBytes(uint64(b.BytesExclusive)), state(b), strings.Join(b.Offsite, ", "))
	}
	t.Flush()
	fmt.Fprintf(w, "%d snapshots, %s, in %s\n", len(catalog.Backups), humanize.IBytes(uint64(total)), catalog.BackupDir)
}

func state(b app.CatalogEntry) string {
	s := "not validated yet"
	switch {
	case b.Valid != nil && *b.Valid:
		s = "valid"
	case b.Valid != nil:
		s = "INVALID"
	}
	if b.Pinned {
		s += ", pinned"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// age says how long ago, in the two largest units that matter to a person.
func age(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case d < 0:
		return "in the future"
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
