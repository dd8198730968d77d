package main

import (
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/daemon"
)

func newRun(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "run",
		GroupID: groupInstall,
		Short:   "Run the daemon in the foreground, as systemd does",
		Long: `Run the schedule until SIGTERM. Everything is logged to stderr; under systemd
(Type=notify) READY is said once the configuration, the store, the history and
the keys have been opened.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			if err := cfg.ValidateRun(daemon.CheckCron); err != nil {
				return err
			}
			a, err := daemon.Open(cmd.Context(), cfg, daemon.Options{
				Version: version(), LockTimeout: c.lockTimeout, Log: c.logger(cfg.Log),
			})
			if err != nil {
				return err
			}
			defer a.Close()
			return a.Run(cmd.Context())
		},
	}
}
