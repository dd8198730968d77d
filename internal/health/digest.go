package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// digestSpan is the time that a digest sums up.
const digestSpan = 7 * 24 * time.Hour

// DigestSince returns from when on a digest at now sums up what happened.
func DigestSince(now time.Time) time.Time { return now.Add(-digestSpan) }

// Counted returns a number with its noun, which takes an s in the plural.
func Counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Lately is what happened in the time that a digest sums up.
type Lately struct {
	Runs []Run            // those that ended
	Sent map[string]int64 // bytes, by target
}

// Digest writes how things stand for people who otherwise hear nothing while all
// is well. It says of the report what every other mouth says, and adds figures.
func Digest(s Status, l Lately, host string) (title, body string) {
	problems := s.Problems()
	title = "atobackupd on " + host + ": all is well"
	if len(problems) > 0 {
		title = "atobackupd on " + host + ": not all is well"
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch {
	case s.Snapshots.Newest == "":
		add("There is nothing to restore to.")
	case s.Snapshots.NewestFull == "":
		add("You can restore to %s.", clockOf(s.Snapshots.Newest))
	default:
		add("You can restore to %s, and with the vector store to %s.", clockOf(s.Snapshots.Newest),
			clockOf(s.Snapshots.NewestFull))
	}
	for _, p := range problems {
		add("%s %s: %s", strings.ToUpper(p.Level), p.Name, p.told())
	}
	add("Here: %s, %d of them valid, %d with the vector store, %s.",
		Counted(s.Snapshots.Count, "snapshot"), s.Snapshots.Valid, s.Snapshots.Full, amount(s.Snapshots.Bytes))
	if s.Space != nil {
		full := "no end in sight"
		if s.Space.FullInDays != nil {
			full = "full in " + Counted(*s.Space.FullInDays, "day")
		}
		add("Disk: %s free, %s.", amount(s.Space.Free), full)
	}
	for _, t := range s.Targets {
		newest := "nothing yet"
		if t.Away {
			newest = "for its vault is not there"
		}
		if t.Newest != "" {
			newest = "newest of " + clockOf(t.Newest)
		}
		add("On %s: %s, %s, %d behind; %s sent in %d days.",
			t.Name, Counted(t.Snapshots, "snapshot"), newest, t.Behind, amount(l.Sent[t.Name]),
			digestSpan/(24*time.Hour))
	}
	add("In %d days: %s.", digestSpan/(24*time.Hour), l.runs())
	for _, leg := range s.Legs {
		switch {
		case !leg.Watched:
			add("%s: %s", leg.Name, leg.Message)
		case leg.LastSuccess != nil:
			add("%s: last went well at %s", leg.Name, Clock(*leg.LastSuccess))
		}
	}
	add("Look: atobackupd status")
	return title, strings.Join(lines, "\n")
}

// runs counts the runs of each job, and those of them that failed.
func (l Lately) runs() string {
	ran, failed := make(map[string]int), make(map[string]int)
	var jobs []string
	for _, run := range l.Runs {
		job, _, _ := strings.Cut(run.Job, ":")
		if !slices.Contains(jobs, job) {
			jobs = append(jobs, job)
		}
		ran[job]++
		if run.Outcome == Failed || run.Outcome == TimedOut {
			failed[job]++
		}
	}
	if len(jobs) == 0 {
		return "nothing ran"
	}
	slices.Sort(jobs)
	var parts []string
	for _, job := range jobs {
		part := fmt.Sprintf("%d of %s", ran[job], job)
		if failed[job] > 0 {
			part += fmt.Sprintf(" (%d failed)", failed[job])
		}
		parts = append(parts, part)
	}
	return "runs: " + strings.Join(parts, ", ")
}

// clockOf writes the time of a stamp for people.
func clockOf(stamp string) string {
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil {
		return stamp
	}
	return Clock(at)
}

// amount writes bytes for people.
func amount(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
