package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

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
				return c.showStatus(cmd.Context(), c.people())
			}
			if c.json {
				return &failure.Error{Op: "status", Kind: failure.Usage,
					Err: errors.New("--watch and --json exclude each other: --json is one document")}
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
		c.status = nagios[health.LevelUnknown]
		c.fail(err)
		return nil
	}
	c.status = nagios[status.Level]
	return c.emit(status, func(io.Writer) { printStatus(w, status, now, c.width()) })
}

// watchStatus looks again and again; Ctrl-C is its orderly end. On a terminal it
// is a screen of its own, which is drawn in place and in one write, so that nothing
// flickers and nothing is left in the scroll-back.
func (c *cli) watchStatus(ctx context.Context) error {
	screen := isTerminal(c.rawStdout)
	if screen {
		_, _ = io.WriteString(c.rawStdout, enterScreen)
		defer func() { _, _ = io.WriteString(c.rawStdout, leaveScreen) }()
	}
	timer := time.NewTicker(watchEvery)
	defer timer.Stop()
	for {
		var text bytes.Buffer
		text.WriteString(time.Now().Format("2006-01-02 15:04:05 MST") + ", every " + watchEvery.String() +
			", Ctrl-C ends it\n\n")
		if err := c.showStatus(ctx, c.peopleOn(&text)); err != nil {
			return err
		}
		frame := text.String()
		if screen {
			frame = inPlace(frame, c.height())
		}
		if _, err := io.WriteString(c.rawStdout, frame); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// What a terminal is told: the other screen without a cursor, and back.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// inPlace draws text over the screen that is there, as far as its lines go.
func inPlace(text string, height int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > height {
		lines = append(lines[:height-1], fmt.Sprintf("… %s more", count(len(lines)-height+1, "line")))
	}
	return "\x1b[H" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\x1b[J"
}

func printStatus(w io.Writer, s health.Status, now time.Time, width int) {
	fmt.Fprintf(w, "%s: %s (%d valid, %d full), %s", s.Level, count(s.Snapshots.Count, "snapshot"), s.Snapshots.Valid,
		s.Snapshots.Full, humanize.IBytes(uint64(s.Snapshots.Bytes)))
	if s.Snapshots.Newest != "" {
		fmt.Fprintf(w, "; newest %s", s.Snapshots.Newest)
	}
	fmt.Fprintln(w)
	printSpace(w, s.Space)
	fmt.Fprintf(w, "daemon: %s", s.Daemon.State)
	if s.Daemon.Since != nil {
		fmt.Fprintf(w, " since %s", s.Daemon.Since.Format(moment))
	}
	fmt.Fprintln(w)
	for _, r := range s.Running {
		took := "for " + age(now, r.Since)
		switch d := now.Sub(r.Since); {
		case d < -time.Minute:
			took = "begun in the future"
		case d < 2*time.Minute: // it may have begun since now was asked for
			took = fmt.Sprintf("for %ds", max(0, int(d.Seconds())))
		}
		text := fmt.Sprintf("running: %s, %s", strings.TrimSpace(r.Job+" "+r.Kind), took)
		if r.Progress != nil {
			text += ": " + r.Progress.String()
		}
		say(w, width, text, "")
	}
	fmt.Fprintln(w)
	t := newTable(column{title: "CHECK"}, column{title: "LEVEL"}, column{title: "LAST SUCCESS"},
		column{title: "NEXT", drop: 1})
	for _, l := range s.Legs {
		last, next := "never", ""
		if l.LastSuccess != nil {
			last = ago(now, *l.LastSuccess)
		}
		if l.Next != nil {
			next = l.Next.Format("Mon " + moment)
		}
		t.row(l.Name, shownLevel(l), last, next)
	}
	t.print(w, width)
	fmt.Fprintln(w)
	for _, c := range s.Conditions {
		say(w, width, fmt.Sprintf("%s: %s", c.Level, about(c.Name, c.Message)), c.Hint)
	}
	for _, m := range legMessages(s.Legs) {
		say(w, width, m, "")
	}
	for _, target := range s.Targets {
		if target.Away {
			say(w, width, fmt.Sprintf("target %s: its vault is not there, %d behind; when it was last seen its newest "+
				"was %s", target.Name, target.Behind, orNone(target.LastSeen)), "")
			continue
		}
		fmt.Fprintf(w, "target %s: %s, newest %s, %d behind\n", target.Name, count(target.Snapshots, "snapshot"),
			orNone(target.Newest), target.Behind)
	}
	for _, alarm := range s.Alarms {
		text := about(alarm.Leg, alarm.Message)
		if isOver(s, alarm.Leg) {
			text = alarm.Leg + ": it is over, and the daemon will say so at its next look"
		}
		say(w, width, fmt.Sprintf("told since %s: %s", alarm.Since.Format(moment), text), "")
	}
}

// shownLevel is the level of a leg; of one that nobody watches it is not said that it
// is well.
func shownLevel(l health.Leg) string {
	if !l.Watched {
		return "off"
	}
	return l.Level
}

// isOver reports whether what an alarm was raised for holds no more: name is that of
// a leg or a condition.
func isOver(s health.Status, name string) bool {
	bad := func(l health.Leg) bool { return l.Name == name && l.Level != health.LevelOK }
	holds := func(c health.Condition) bool { return c.Name == name }
	return !slices.ContainsFunc(s.Legs, bad) && !slices.ContainsFunc(s.Conditions, holds)
}

// legMessages returns what there is to say of the legs; what is the same of several,
// as before the daemon's first start, is said once.
func legMessages(legs []health.Leg) (messages []string) {
	type saying struct{ level, message string }
	var order []saying
	of := make(map[saying][]string) // the legs' names
	for _, l := range legs {
		if l.Message == "" {
			continue
		}
		said := saying{shownLevel(l), strings.TrimPrefix(l.Message, l.Name+": ")}
		if of[said] == nil {
			order = append(order, said)
		}
		of[said] = append(of[said], l.Name)
	}
	for _, said := range order {
		messages = append(messages, said.level+": "+strings.Join(of[said], ", ")+": "+said.message)
	}
	return messages
}

func printSpace(w io.Writer, s *health.SpaceStatus) {
	if s == nil {
		return
	}
	fmt.Fprintf(w, "disk: %s free, %s of them min_free", humanize.IBytes(uint64(s.Free)),
		humanize.IBytes(uint64(s.MinFree)))
	if s.GrowthPerDay != nil && *s.GrowthPerDay > 0 {
		fmt.Fprintf(w, "; it fills by %s a day", humanize.IBytes(uint64(*s.GrowthPerDay)))
	}
	if s.FullInDays != nil {
		fmt.Fprintf(w, ", full in about %s", count(*s.FullInDays, "day"))
	}
	fmt.Fprintln(w)
}
