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
	"github.com/atocore/atobackupd/internal/failure"
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
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.runDaemon(cmd.Context())
			early, ok := errors.AsType[*daemon.NotStarted](err)
			if !ok || failure.KindOf(err) == failure.Locked || cmd.Context().Err() != nil {
				return err // a second daemon is told of by the first
			}
			return errors.Join(early.Err, c.noteNotStarted(cmd.Context(), early.Err))
		},
	}
}

// runDaemon runs the daemon until it is stopped.
func (c *cli) runDaemon(ctx context.Context) (err error) {
	cfg, err := c.load()
	if err == nil {
		err = cfg.ValidateRun(app.CheckCron)
	}
	if err != nil {
		return &daemon.NotStarted{Err: err}
	}
	a, err := app.Open(ctx, cfg, app.Options{
		Version: version(), LockTimeout: c.lockTimeout, Log: c.logger(cfg.Log), Daemon: true,
	})
	if err != nil {
		return &daemon.NotStarted{Err: err}
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return daemon.Run(ctx, a, c.hangup)
}

// noteNotStarted records that the daemon does not start, and tells the last good
// addresses, for a minute at most.
func (c *cli) noteNotStarted(ctx context.Context, refusal error) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	path := config.Locate(c.configPath)
	stateDir := config.GuessStateDir(path)
	if cfg, err := config.Load(path); err == nil {
		stateDir = cfg.StateDir
	}
	return app.NoteRefusedStart(ctx, stateDir, host, refusal, time.Now())
}
