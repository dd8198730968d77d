package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/setup"
)

func newConfigCheck(c *cli) *cobra.Command {
	var send bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check everything that can be checked without doing it",
		Long: `Check the configuration: keys and values, that the paths exist and can be read,
and written, also by the service's user when root asks, cron expressions with
their next three times, keys, recipients, known_hosts, addresses. Errors exit 2;
warnings do not.`,
		Example: "  atobackupd config check --config ./config.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			report, err := setup.CheckConfig(cmd.Context(), cfg, time.Now())
			if err != nil && !c.json {
				for _, warning := range report.Warnings {
					fmt.Fprintln(c.stderr, "warning:", escape.String(warning))
				}
			}
			if err == nil && send {
				var host string
				if host, err = os.Hostname(); err == nil {
					_, err = app.TestNotify(cmd.Context(), cfg, host)
				}
			}
			return c.emitWith(err, report, func(w io.Writer) { printConfigReport(w, cfg, report) })
		},
	}
	cmd.Flags().BoolVar(&send, "notify", false, "send a real message to every address of [notify]")
	return cmd
}

func printConfigReport(w io.Writer, cfg *config.Config, r setup.ConfigReport) {
	for _, job := range r.Schedule.Jobs {
		fmt.Fprintf(w, "%-8s %-18s next", job.Job, job.Expr)
		for _, next := range job.Next {
			fmt.Fprintf(w, "  %s", next.Format("Mon 2006-01-02 15:04 MST"))
		}
		fmt.Fprintln(w)
	}
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, "warning:", escape.String(warning))
	}
	fmt.Fprintf(w, "%s is good\n", cfg.Path)
}
