package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/snapshot"
)

func newLs(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "ls STAMP|latest",
		GroupID: groupDaily,
		Short:   "List the files of a snapshot",
		Long: `List the files of a snapshot of this machine: mode, owner, group, bytes and time
of the live file, and the path below the snapshot's directory. What is in a
snapshot on a target is listed by ` + "`atobackupd vault ls`" + `.`,
		Example:           "  atobackupd ls latest",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeStamps,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				doc, err := a.Files(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.emit(doc, func(w io.Writer) { printFiles(w, doc.Files) })
			})
		},
	}
}

// printFiles lists files as `ls -l` would, in the order in which they are given.
func printFiles(w io.Writer, files []snapshot.File) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, f := range files {
		name := f.Path
		switch f.Type {
		case snapshot.TypeSymlink:
			name += " -> " + f.Target
		case snapshot.TypeDir:
			name += "/"
		}
		fmt.Fprintf(t, "%04o\t%d\t%d\t%d\t%s\t %s\n", f.Mode, f.UID, f.GID, f.Size,
			f.MTime.UTC().Format("2006-01-02 15:04:05"),
			escape.String(name))
	}
	t.Flush()
}
