package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/daemon"
)

// runCommand is the command that is the daemon.
const runCommand = "run"

func newRun(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     runCommand,
		GroupID: groupInstall,
		Short:   "Run the daemon in the foreground, as systemd does",
		Long: `Run the schedule until SIGTERM: what ` + "`systemctl enable --now atobackupd`" + `
starts. Everything is logged to stderr; under systemd (Type=notify) READY is
said once the configuration, the store, the history and the keys have been
opened. SIGHUP reads the configuration again; a bad one is refused and the old
one stays. SIGTERM lets the running job reach a safe point, at most
schedule.shutdown_timeout long; a second one ends at once.`,
		Example: "  atobackupd run --config ./config.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, err := c.load()
			if err == nil {
				err = cfg.ValidateRun(app.CheckCron)
			}
			if err != nil {
				return c.tellRefused(cmd.Context(), err)
			}
			a, err := app.Open(cmd.Context(), cfg, app.Options{
				Version: version(), LockTimeout: c.lockTimeout, Log: c.logger(cfg.Log),
			})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, a.Close()) }()
			return daemon.Run(cmd.Context(), a, c.hangup)
		},
	}
}

// tellRefused tells the last good addresses that the daemon does not start with
// this configuration. What goes wrong with that is added to the refusal.
func (c *cli) tellRefused(ctx context.Context, refusal error) error {
	host, err := os.Hostname()
	if err != nil {
		return errors.Join(refusal, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	path := config.Locate(c.configPath)
	return errors.Join(refusal, app.TellRefused(ctx, config.GuessStateDir(path), host, refusal, time.Now()))
}
