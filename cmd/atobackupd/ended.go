package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/daemon"
)

// newServiceEnded is the unit's ExecStopPost: a daemon that was killed, or that
// does not start, cannot tell anybody itself.
func newServiceEnded(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    "service-ended",
		Hidden: true,
		Short:  "Tell people that the service ended by itself (run by systemd)",
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			result := os.Getenv("SERVICE_RESULT")
			if result == "" || result == "success" {
				return nil
			}
			cfg, err := c.load()
			if err != nil {
				return err
			}
			a, err := app.Open(cmd.Context(), cfg,
				app.Options{Version: version(), LockTimeout: time.Second, Log: c.logger(cfg.Log)})
			if err != nil {
				return err
			}
			defer a.Close()
			return daemon.NoteEnd(cmd.Context(), a, result, os.Getenv("EXIT_CODE"), os.Getenv("EXIT_STATUS"))
		},
	}
}
