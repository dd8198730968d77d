package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/demo"
	"github.com/atocore/atobackupd/internal/failure"
)

func newDemo(c *cli) *cobra.Command {
	var keep bool
	var writer string
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupInstall,
		Short:   "Play the whole life of a backup in a temporary directory",
		Long: `Make a small store with a live writer, take and validate snapshots, prune half a
year of them, ship them to a second machine, lose everything, and get it back.
It needs no root and no configuration, and touches nothing outside its
directory.`,
		Example: "  atobackupd demo\n  atobackupd demo --keep",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if writer != "" {
				return demo.Write(cmd.Context(), writer, c.stdout)
			}
			if c.json {
				return &failure.Error{Op: "demo", Kind: failure.Usage, Err: errors.New("it tells a story, which is no JSON document")}
			}
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			c.emitted = true
			return demo.Run(cmd.Context(), demo.Options{Out: c.stdout, Executable: executable, Version: version(), Keep: keep})
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the directory behind, to look around in")
	cmd.Flags().StringVar(&writer, "writer", "", "be the writing process, on this database")
	_ = cmd.Flags().MarkHidden("writer")
	return cmd
}
