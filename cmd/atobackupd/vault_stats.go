package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultStats(c *cli) *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Say what is used by what in the vault, and what a prune would free",
		Long: `Say how many bytes each snapshot in the vault needs, how many of them no other
snapshot needs, and what is on its way out. Reads no pack and needs no key.`,
		Example: "  atobackupd vault stats --target laptop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				s, err := v.Stats(cmd.Context(), v.Signers)
				if err != nil {
					return err
				}
				return c.emit(s, func(w io.Writer) { printStats(w, s) })
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	return cmd
}

func printStats(w io.Writer, s offsite.Stats) {
	size := func(n int64) string { return humanize.IBytes(uint64(n)) }
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STAMP\tKIND\tNEEDS\tALONE\tPUSH")
	for _, p := range s.Snapshots {
		push := string(p.Push)
		if p.Superseded {
			push += " (superseded)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.Stamp, p.Kind, size(p.Bytes), size(p.Only), push)
	}
	t.Flush()
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range []struct {
		name string
		offsite.Usage
	}{
		{"packs", s.Packs}, {"  needed", s.Needed}, {"  needed by nothing", s.Unneeded},
		{"in trash/", s.Trash}, {"in incoming/", s.Incoming}, {"beside them", s.Beside},
	} {
		fmt.Fprintf(t, "%s\t%d\t%s\n", line.name, line.Objects, size(line.Bytes))
	}
	t.Flush()
	fmt.Fprintf(w, "a prune frees %s once the waiting times are over", size(s.Unneeded.Bytes+s.Trash.Bytes))
	if s.Free >= 0 {
		fmt.Fprintf(w, "; %s are free", size(s.Free))
	}
	fmt.Fprintln(w)
	for _, warning := range s.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
}
