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
			return c.emitWith(err, report, func(w io.Writer) { printConfigReport(w, cfg, report, c.width()) })
		},
	}
	cmd.Flags().BoolVar(&send, "notify", false, "send a real message to every address of [notify]")
	return cmd
}

func printConfigReport(w io.Writer, cfg *config.Config, r setup.ConfigReport, width int) {
	t := newTable(column{title: "JOB"}, column{title: "EXPRESSION", drop: 1}, column{title: "NEXT"})
	for _, job := range r.Schedule.Jobs {
		name, expr := job.Job, job.Expr
		for _, next := range job.Next {
			t.row(name, expr, next.Format("Mon "+moment))
			name, expr = "", ""
		}
	}
	t.print(w, width)
	for _, warning := range r.Warnings {
		hang(w, width, "warning: ", escape.String(warning))
	}
	fmt.Fprintf(w, "%s is good\n", cfg.Path)
}
