package main

import (
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
)

func newSchedule(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "schedule",
		GroupID: groupLook,
		Short:   "Show when each job runs next, and how it went last",
		Long: `Show the next slots of each job in [schedule], in its own time zone and in UTC,
and when and how it ran last. The prune, and the sync of each target, follow
each snapshot; a target that was away is tried again by itself.`,
		Example: "  atobackupd schedule",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				s, err := a.Schedule(cmd.Context(), time.Now())
				if err != nil {
					return err
				}
				return c.emit(s, func(w io.Writer) { printSchedule(w, s, c.width()) })
			})
		},
	}
}

func printSchedule(w io.Writer, s app.Schedule, width int) {
	zone, err := time.LoadLocation(s.Timezone)
	if err != nil {
		zone = time.UTC // Schedule has refused it already
	}
	const minute = "2006-01-02 15:04"
	utc := zone.String() != time.UTC.String()
	columns := []column{{title: "JOB"}, {title: "EXPRESSION", drop: 2, wrap: true}, {title: "NEXT (" + s.Timezone + ")"}}
	if utc {
		columns = append(columns, column{title: "NEXT (UTC)", drop: 1})
	}
	t := newTable(append(columns, column{title: "LAST (" + s.Timezone + ")"}, column{title: "OUTCOME"})...)
	jobs := slices.Concat(s.Jobs, s.FollowUps)
	for _, job := range jobs {
		last, outcome := "never ran", ""
		if !job.Last.IsZero() {
			last, outcome = job.Last.In(zone).Format(minute), job.LastOutcome
		}
		name, expr := job.Job, job.Expr
		if len(job.Next) == 0 { // no take is scheduled that it could follow
			job.Next = []time.Time{{}}
		}
		for _, next := range job.Next {
			cells := []string{name, expr, shown(next.In(zone), "Mon "+minute)}
			if utc {
				cells = append(cells, shown(next.UTC(), minute))
			}
			t.row(append(cells, last, outcome)...)
			name, expr, last, outcome = "", "", "", ""
		}
	}
	t.print(w, width)
	for _, job := range jobs {
		if job.LastError != "" {
			say(w, width, about(job.Job, job.LastError), "")
		}
	}
}

// shown formats a time; "" is none.
func shown(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(layout)
}
