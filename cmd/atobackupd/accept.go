package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/snapshot"
)

// acceptBackupDir is what accept takes instead of a stamp.
const acceptBackupDir = "backup-dir"

func newAccept(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "accept STAMP|latest|backup-dir",
		GroupID: groupDaily,
		Short:   "Say that a change which held things up was meant",
		Long: `Say that a change was meant which the daemon takes for an accident.

A STAMP is that of a snapshot whose source had lost much: a table that is empty,
a registry that is gone; or of one that was published and is not there any more,
although no prune deleted it. Until it is accepted, status is critical.

backup-dir takes the backup directory as it is for the right one, with the
snapshots that lie in it and no others. It is marked with a file when it is
first used; where that file is missing although snapshots are known, the disk is
taken for not mounted, and nothing is written there.`,
		Example:   "  atobackupd accept 20260407T060000Z\n  atobackupd accept backup-dir",
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{acceptBackupDir},
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != acceptBackupDir {
				if err := checkStamp(args[0]); err != nil {
					return err
				}
			}
			return c.withApp(cmd.Context(), false, func(a *app.App) error {
				if args[0] != acceptBackupDir {
					stamp, err := stampOf(cmd.Context(), a, args[0])
					if err != nil {
						return err
					}
					if err := a.Accept(cmd.Context(), stamp); err != nil {
						return err
					}
					doc := map[string]snapshot.Stamp{"accepted": stamp}
					return c.emit(doc, func(w io.Writer) { _, _ = io.WriteString(w, string(stamp)+": accepted\n") })
				}
				if err := a.AcceptBackupDir(cmd.Context()); err != nil {
					return err
				}
				doc := map[string]string{"backup_dir": a.Config.Backup.Dir}
				return c.emit(doc, func(w io.Writer) {
					_, _ = io.WriteString(w, a.Config.Backup.Dir+" is the backup directory\n")
				})
			})
		},
	}
}
