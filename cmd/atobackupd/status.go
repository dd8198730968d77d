package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
)

// nagios is the exit status of `status`, as monitoring plugins have it.
var nagios = map[string]int{health.LevelOK: 0, health.LevelWarning: 1, health.LevelCritical: 2, health.LevelUnknown: 3}

// watchEvery is how often `status --watch` looks again.
const watchEvery = 2 * time.Second

func newStatus(c *cli) *cobra.Command {
	watch := false
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "Say how everything stands",
		Long: `Say how everything stands: one line for each leg (snapshot, full, prune, scrub,
drill, and each target), the targets and the alarms. Exits 0 ok, 1 warning,
2 critical, 3 unknown, as Nagios-style checks do.`,
		Example: "  atobackupd status\n  atobackupd status --watch\n  atobackupd status --json | jq .level",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !watch {
				return c.showStatus(cmd.Context(), c.stdout)
			}
			if c.json {
				return &failure.Error{Op: "status", Kind: failure.Usage, Err: errors.New("--watch and --json exclude each other: --json is one document")}
			}
			return c.watchStatus(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "look again every 2 seconds, until interrupted")
	return cmd
}

// showStatus looks once. A check that cannot look is "unknown", never "ok" or
// "failed".
func (c *cli) showStatus(ctx context.Context, w io.Writer) error {
	now := time.Now()
	a, err := c.open(ctx, true)
	var status health.Status
	if err == nil {
		defer a.Close()
		status, err = a.Status(ctx, now)
	}
	if err != nil {
		c.fail(err)
		c.status = nagios[health.LevelUnknown]
		return nil
	}
	c.status = nagios[status.Level]
	return c.emit(status, func(io.Writer) { printStatus(w, status, now) })
}

// watchStatus looks again and again; Ctrl-C is its orderly end. The screen is
// drawn in one write, so that it does not flicker.
func (c *cli) watchStatus(ctx context.Context) error {
	clear := ""
	if isTerminal(c.rawStdout) {
		clear = "\x1b[H\x1b[2J"
	}
	timer := time.NewTicker(watchEvery)
	defer timer.Stop()
	for {
		var screen bytes.Buffer
		screen.WriteString(clear + time.Now().Format("2006-01-02 15:04:05 MST") + "\n")
		if err := c.showStatus(ctx, escape.Writer(&screen)); err != nil {
			return err
		}
		if _, err := c.rawStdout.Write(screen.Bytes()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

func printStatus(w io.Writer, s health.Status, now time.Time) {
	fmt.Fprintf(w, "%s: %d snapshots (%d valid, %d full), %s", s.Level, s.Snapshots.Count, s.Snapshots.Valid, s.Snapshots.Full, humanize.IBytes(uint64(s.Snapshots.Bytes)))
	if s.Snapshots.Newest != "" {
		fmt.Fprintf(w, "; newest %s", s.Snapshots.Newest)
	}
	fmt.Fprintln(w)
	printSpace(w, s.Space)
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
	for _, c := range s.Conditions {
		fmt.Fprintf(w, "%s: %s: %s\n", c.Level, c.Name, c.Message)
		if c.Hint != "" {
			fmt.Fprintf(w, "    %s\n", c.Hint)
		}
	}
	if s.Daemon.Since == nil {
		fmt.Fprintf(w, "daemon: %s\n", s.Daemon.State)
	} else {
		fmt.Fprintf(w, "daemon: %s since %s\n", s.Daemon.State, s.Daemon.Since.Format(time.RFC3339))
	}
	for _, r := range s.Running {
		fmt.Fprintf(w, "running: %s %s since %s\n", r.Job, r.Kind, r.Since.Format(time.RFC3339))
	}
	for _, target := range s.Targets {
		fmt.Fprintf(w, "target %s: %d snapshots, newest %s, %d behind\n", target.Name, target.Snapshots, orNone(target.Newest), target.Behind)
	}
	for _, alarm := range s.Alarms {
		fmt.Fprintf(w, "alarm since %s: %s: %s\n", alarm.Since.Format(time.RFC3339), alarm.Leg, alarm.Message)
	}
}

func printSpace(w io.Writer, s *health.SpaceStatus) {
	if s == nil {
		return
	}
	fmt.Fprintf(w, "disk: %s free, %s of them min_free", humanize.IBytes(uint64(s.Free)), humanize.IBytes(uint64(s.MinFree)))
	if s.GrowthPerDay != nil && *s.GrowthPerDay > 0 {
		fmt.Fprintf(w, "; it fills by %s a day", humanize.IBytes(uint64(*s.GrowthPerDay)))
	}
	if s.FullInDays != nil {
		fmt.Fprintf(w, ", full in about %d days", *s.FullInDays)
	}
	fmt.Fprintln(w)
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
		Long: `Show the next slots of each job in [schedule], in its own time zone and in UTC,
and when and how it ran last.`,
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

func printSchedule(w io.Writer, s app.Schedule) {
	zone, err := time.LoadLocation(s.Timezone)
	if err != nil {
		zone = time.UTC // Schedule has refused it already
	}
	const minute = "2006-01-02 15:04"
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "JOB\tEXPRESSION\tNEXT (%[1]s)\tNEXT (UTC)\tLAST (%[1]s)\tLAST (UTC)\tOUTCOME\n", s.Timezone)
	for _, job := range s.Jobs {
		last, lastUTC, outcome := "never ran", "", ""
		if !job.Last.IsZero() {
			last, lastUTC, outcome = job.Last.In(zone).Format(minute), job.Last.UTC().Format(minute), job.LastOutcome
		}
		if job.LastError != "" {
			outcome += ": " + job.LastError
		}
		for i, next := range job.Next {
			name, expr := job.Job, job.Expr
			if i > 0 {
				name, expr, last, lastUTC, outcome = "", "", "", "", ""
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, expr, next.In(zone).Format("Mon "+minute), next.UTC().Format(minute), last, lastUTC, outcome)
		}
	}
	t.Flush()
}
