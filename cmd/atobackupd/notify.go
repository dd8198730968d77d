package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
)

func newNotify(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "notify",
		GroupID: groupLook,
		Short:   "Tell people, to see that messages arrive",
		Long: `Messages go to notify.urls, notify.urls_file and notify.command when something
turns bad, when it recovers, and once a day meanwhile.`,
		Example: "  atobackupd notify test",
	})
	cmd.AddCommand(&cobra.Command{
		Use:   "test",
		Short: "Send a real message to every address",
		Long: `Send a real message to every address of the configuration. It fails when one of
them does not take it.`,
		Example: "  sudo atobackupd notify test",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			return c.notifyTest(cmd.Context(), cfg)
		},
	})
	return cmd
}

func (c *cli) notifyTest(ctx context.Context, cfg *config.Config) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	n, err := app.TestNotify(ctx, cfg, host)
	if err != nil {
		return err
	}
	return c.emit(map[string]int{"sent": n},
		func(w io.Writer) {
			fmt.Fprintf(w, "sent to %s: see that it arrived\n", english.Plural(n, "address", ""))
		})
}
