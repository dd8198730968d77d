package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/daemon"
)

// nagios is the exit status of `status`, as monitoring plugins have it.
var nagios = map[string]int{daemon.LevelOK: 0, daemon.LevelWarning: 1, daemon.LevelCritical: 2, daemon.LevelUnknown: 3}

func newStatus(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "Say how everything stands; exits 0 ok, 1 warning, 2 critical, 3 unknown",
		Example: "  atobackupd status\n  atobackupd status --json | jq .level",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			a, err := c.open(cmd.Context(), true)
			var status daemon.Status
			if err == nil {
				defer a.Close()
				status, err = a.Status(cmd.Context(), now)
			}
			if err != nil {
				// A check that cannot look is "unknown", never "ok" or "failed".
				c.fail(err)
				c.status = nagios[daemon.LevelUnknown]
				return nil
			}
			c.status = nagios[status.Level]
			return c.emit(status, func(w io.Writer) { printStatus(w, status, now) })
		},
	}
}

func printStatus(w io.Writer, s daemon.Status, now time.Time) {
	fmt.Fprintf(w, "%s: %d snapshots (%d valid, %d full), %s", s.Level, s.Snapshots.Count, s.Snapshots.Valid, s.Snapshots.Full, humanize.IBytes(uint64(s.Snapshots.Bytes)))
	if s.Snapshots.Newest != "" {
		fmt.Fprintf(w, "; newest %s", s.Snapshots.Newest)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LEG\tLEVEL\tLAST SUCCESS\tNEXT\tMESSAGE")
	for _, l := range s.Legs {
		last, next := "never", ""
		if l.LastSuccess != nil {
			last = age(now, *l.LastSuccess) + " ago"
		}
		if l.Next != nil {
			next = l.Next.Format("Mon 2006-01-02 15:04 MST")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Name, l.Level, last, next, l.Message)
	}
	t.Flush()
	for _, target := range s.Targets {
		fmt.Fprintf(w, "target %s: %d snapshots, newest %s, %d behind\n", target.Name, target.Snapshots, orNone(string(target.Newest)), target.Behind)
	}
	for _, alarm := range s.Alarms {
		fmt.Fprintf(w, "alarm since %s: %s: %s\n", alarm.Since.Format(time.RFC3339), alarm.Leg, alarm.Message)
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func newSchedule(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "schedule",
		GroupID: groupLook,
		Short:   "Show when each job runs next, and how it went last",
		Example: "  atobackupd schedule",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer a.Close()
			s, err := a.Schedule(cmd.Context(), time.Now())
			if err != nil {
				return err
			}
			return c.emit(s, func(w io.Writer) { printSchedule(w, s) })
		},
	}
}

func printSchedule(w io.Writer, s daemon.Schedule) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "JOB\tEXPRESSION\tNEXT (%s)\tNEXT (UTC)\tLAST\n", s.Timezone)
	for _, job := range s.Jobs {
		last := "never ran"
		if !job.Last.IsZero() {
			last = job.Last.Format("2006-01-02 15:04") + " " + job.LastOutcome
		}
		for i, next := range job.Next {
			name, expr := job.Job, job.Expr
			if i > 0 {
				name, expr, last = "", "", ""
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", name, expr, next.Format("Mon 2006-01-02 15:04"), next.UTC().Format("2006-01-02 15:04"), last)
		}
	}
	t.Flush()
}
