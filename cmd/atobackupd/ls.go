package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/snapshot"
)

func newLs(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "ls STAMP|latest",
		GroupID: groupDaily,
		Short:   "List the files of a snapshot",
		Long: `List the files of a snapshot of this machine: mode, owner, group, bytes and time
of the live file, and the path below the snapshot's directory. What is in a
snapshot on a target is listed by ` + "`atobackupd vault ls`" + `.
Columns that the width has no room for are left out: COLUMNS=200 shows all.`,
		Example:           "  atobackupd ls latest",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeStamps,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				doc, err := a.Files(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.emit(doc, func(w io.Writer) { printFiles(w, doc.Files, c.width()) })
			})
		},
	}
}

// printFiles lists files as `ls -l` would, in the order in which they are given.
// A path is not broken while another column can be left out.
func printFiles(w io.Writer, files []snapshot.File, width int) {
	const whole = 1 << 10
	t := newTable(column{title: "MODE", drop: 3}, column{title: "OWNER", drop: 2}, column{title: "BYTES", right: true},
		column{title: "MODIFIED (UTC)", drop: 1}, column{title: "PATH", wrap: true, least: whole})
	for _, f := range files {
		name := f.Path
		switch f.Type {
		case snapshot.TypeSymlink:
			name += " -> " + f.Target
		case snapshot.TypeDir:
			name += "/"
		}
		t.row(fmt.Sprintf("%04o", f.Mode), fmt.Sprintf("%d:%d", f.UID, f.GID), fmt.Sprint(f.Size),
			f.MTime.UTC().Format(time.DateTime), name)
	}
	t.print(w, width)
}
