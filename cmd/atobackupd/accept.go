package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/failure"
)

// acceptBackupDir is what accept takes instead of a stamp.
const acceptBackupDir = "backup-dir"

func newAccept(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "accept backup-dir",
		GroupID: groupDaily,
		Short:   "Say that a change which held things up was meant",
		Long: `Say that a change was meant which the daemon takes for an accident.

backup-dir takes the backup directory as it is for the right one. It is marked
with a file when it is first used; where that file is missing although snapshots
are known, the disk is taken for not mounted, and nothing is written there.`,
		Example:   "  atobackupd accept backup-dir",
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{acceptBackupDir},
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != acceptBackupDir {
				return &failure.Error{Op: "accept", Subject: args[0], Kind: failure.Usage, Err: errors.New("this is nothing that waits to be accepted"),
					Hint: "see `atobackupd status` for what does"}
			}
			a, err := c.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer a.Close()
			if err := a.AcceptBackupDir(cmd.Context()); err != nil {
				return err
			}
			doc := map[string]string{"backup_dir": a.Config.Backup.Dir}
			return c.emit(doc, func(w io.Writer) { _, _ = io.WriteString(w, a.Config.Backup.Dir+" is the backup directory\n") })
		},
	}
}
