package main

import (
	"fmt"
	"io"
	"strings"
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
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				now := time.Now()
				catalog, err := a.List(cmd.Context(), now)
				if err != nil {
					return err
				}
				for _, warning := range catalog.Warnings {
					fmt.Fprintln(c.stderr, "warning:", escape.String(warning))
				}
				return c.emit(catalog, func(w io.Writer) { printCatalog(w, catalog, now, c.width()) })
			})
		},
	}
}

func printCatalog(w io.Writer, catalog app.Catalog, now time.Time, width int) {
	if len(catalog.Backups) == 0 {
		fmt.Fprintf(w, "no snapshots in %s yet; take one with `atobackupd backup`\n", catalog.BackupDir)
		return
	}
	t := newTable(column{title: "STAMP"}, column{title: "AGE", drop: 3, right: true}, column{title: "KIND"},
		column{title: "CHROMA"}, column{title: "SIZE", right: true}, column{title: "EXCLUSIVE", drop: 1, right: true},
		column{title: "STATE"}, column{title: "OFF-SITE", wrap: true})
	var total int64
	for _, b := range catalog.Backups {
		total += b.Bytes
		t.row(string(b.Stamp), age(now, b.CreatedAt), string(b.Kind), yes(b.Full), humanize.IBytes(uint64(b.Bytes)),
			humanize.IBytes(uint64(b.BytesExclusive)), state(b), strings.Join(b.Offsite, ", "))
	}
	t.print(w, width)
	for _, b := range catalog.Backups {
		if b.Note != "" {
			fmt.Fprintf(w, "%s: %s\n", b.Stamp, escape.String(b.Note))
		}
	}
	fmt.Fprintf(w, "%s, %s, in %s\n", count(len(catalog.Backups), "snapshot"), humanize.IBytes(uint64(total)),
		catalog.BackupDir)
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
	if len(b.Suspect) > 0 {
		s += ", suspect"
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

// ago is the age of what happened, as a table shows it.
func ago(now, then time.Time) string {
	if then.After(now) {
		return age(now, then)
	}
	return age(now, then) + " ago"
}
