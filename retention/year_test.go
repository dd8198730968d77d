package retention

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// year is a machine that lives through 2028, a leap year, with the default
// schedule: a full snapshot on Sundays at 5:00 and a bare one daily at 6:00,
// both local, and a prune after it.
type year struct {
	t         *testing.T
	location  *time.Location
	policy    Policy
	snapshots []Snapshot
	log       strings.Builder
}

// Days on which something goes wrong, or somebody does something.
var (
	offFrom, offUntil = "2028-07-10", "2028-08-15" // the machine is off: from, and back on
	missedSundays     = []string{"2028-02-06", "2028-05-07", "2028-05-14"}
	failingFrom       = "2028-09-10" // every take is invalid: from, and good again
	failingUntil      = "2028-09-22"
)

// local is a time of a date in the machine's zone.
func (y *year) local(date string, hour, minute int) time.Time {
	d, err := time.Parse(time.DateOnly, date)
	if err != nil {
		y.t.Fatal(err)
	}
	return time.Date(d.Year(), d.Month(), d.Day(), hour, minute, 0, 0, y.location)
}

func (y *year) take(when time.Time, kind string, full, valid bool) {
	when = when.UTC()
	y.snapshots = append(
		y.snapshots,
		Snapshot{Stamp: when.Format(StampLayout), Time: when, Kind: kind, Full: full, Valid: valid},
	)
}

// note writes an event of the script.
func (y *year) note(date, format string, args ...any) {
	fmt.Fprintf(&y.log, "%s  * %s\n", date, fmt.Sprintf(format, args...))
}

// live is one day: what is scheduled, and what the script adds.
func (y *year) live(date string) {
	if date >= offFrom && date < offUntil {
		return
	}
	morning := y.local(date, 6, 0)
	valid := date < failingFrom || date >= failingUntil
	switch {
	case date == offUntil: // the missed slot is caught up with in the afternoon
		y.note(date, "back after a month and more")
		y.take(y.local(date, 15, 30), KindDaily, false, true)
	case slices.Contains(missedSundays, date):
		y.note(date, "off on a Sunday")
	default:
		if morning.Weekday() == time.Sunday {
			y.take(y.local(date, 5, 0), KindWeekly, true, valid)
		}
		y.take(morning, KindDaily, false, valid)
	}
	y.incidents(date)
}

func (y *year) incidents(date string) {
	switch date {
	case "2028-02-29":
		y.note(date, "a manual snapshot of the leap day is pinned")
		y.take(y.local(date, 23, 59), KindManual, true, true)
		y.snapshots[len(y.snapshots)-1].Pinned = true
	case "2028-03-26", "2028-03-12", "2028-10-29", "2028-11-05":
		y.note(date, "clocks change in one of the zones; manual snapshots at both ends of the day")
		y.take(y.local(date, 0, 0), KindManual, false, true)
		y.take(y.local(date, 23, 59), KindManual, false, true)
	case "2028-04-20":
		y.note(date, "a restore leaves two pre-restore snapshots, one of them invalid")
		y.take(y.local(date, 10, 0), KindPreRestore, true, false)
		y.take(y.local(date, 11, 0), KindPreRestore, true, true)
	case "2028-06-01":
		y.note(date, "a restore leaves a pre-restore snapshot")
		y.take(y.local(date, 10, 0), KindPreRestore, false, true)
	case "2028-06-20":
		y.note(date, "the 1st and the 18th are found rotten")
		for i, s := range y.snapshots {
			if d := s.Time.In(y.location).Format(time.DateOnly); d == "2028-06-01" && s.Kind == KindDaily ||
				d == "2028-06-18" {
				y.snapshots[i].Valid, y.snapshots[i].InvalidSince = false, y.local(date, 3, 0)
			}
		}
	case "2028-10-10":
		y.note(date, "the clock was a year ahead for one take")
		y.take(y.local("2029-10-10", 12, 0), KindDaily, false, true)
	case failingFrom:
		y.note(date, "from now on every take is invalid")
	case failingUntil:
		y.note(date, "takes are valid again")
	}
}

// prune carries a day's plan out and logs what it deletes and why.
func (y *year) prune(date string) Decision {
	now := y.local(date, 23, 59).Add(59 * time.Second)
	d := Plan(y.snapshots, y.policy, now)
	y.invariants(date, now, d)
	gone := map[string]bool{}
	for _, v := range d.Delete() {
		gone[v.Stamp] = true
		fmt.Fprintf(&y.log, "%s  - %s  %s\n", date, v.Stamp, strings.Join(v.Reasons, "; "))
	}
	y.snapshots = slices.DeleteFunc(y.snapshots, func(s Snapshot) bool { return gone[s.Stamp] })
	return d
}

// invariants are asserted before anything is compared with a golden file, which
// somebody might rewrite without reading.
func (y *year) invariants(date string, now time.Time, d Decision) {
	gone := map[string]bool{}
	for _, v := range d.Delete() {
		gone[v.Stamp] = true
	}
	lastFull, days := time.Time{}, map[string]bool{}
	for _, s := range y.snapshots {
		if gone[s.Stamp] || !s.Valid || s.Kind == KindPreRestore || s.Time.After(now) {
			continue
		}
		days[s.Time.In(y.location).Format(time.DateOnly)] = true
		if s.Full && s.Time.After(lastFull) {
			lastFull = s.Time
		}
	}
	if d.Held {
		y.t.Errorf("%s: an ordinary day is held: %s", date, d.HeldReason)
	}
	if date >= "2028-01-07" && len(days) < 7 {
		y.t.Errorf("%s: only %d days left", date, len(days))
	}
	// Three Sundays in a row are the longest without a full one, but for the
	// month off and the failing weeks.
	if date >= "2028-01-02" && date < offFrom && now.Sub(lastFull) > 21*24*time.Hour {
		y.t.Errorf("%s: the newest full one is of %s", date, lastFull)
	}
	// While takes fail their invalid ones pile up, until a valid one follows.
	if n := len(d.Keep()); n > 25 && (date < failingFrom || date >= failingUntil) {
		y.t.Errorf("%s: %d kept", date, n)
	}
}

// table writes what survives, oldest first.
func (y *year) table(date string, d Decision) {
	kinds := map[string]Snapshot{}
	for _, s := range y.snapshots {
		kinds[s.Stamp] = s
	}
	fmt.Fprintf(&y.log, "\n%s: %d kept\n", date, len(d.Keep()))
	for _, v := range d.Keep() {
		s, size := kinds[v.Stamp], "bare"
		if s.Full {
			size = "full"
		}
		fmt.Fprintf(&y.log, "    %s  %-11s  %s  %s\n", v.Stamp, s.Kind, size, strings.Join(v.Reasons, "; "))
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&y.log, "    warning: %s\n", w)
	}
	y.log.WriteString("\n")
}

// TestPlanYear plans every day of the year and compares every deletion and each
// month's survivors, with all reasons, to a golden file that is meant to be read.
func TestPlanYear(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York"} {
		t.Run(name, func(t *testing.T) {
			p := usual()
			p.MaxDeleteFraction, p.Location = 0.5, zone(t, name)
			y := &year{t: t, location: p.Location, policy: p}
			for d := time.Date(2028, 1, 1, 12, 0, 0, 0, time.UTC); d.Year() == 2028; d = d.Add(day) {
				date := d.Format(time.DateOnly)
				y.live(date)
				decision := y.prune(date)
				if tomorrow := d.Add(day); tomorrow.Day() == 1 || date == offUntil || date == failingUntil {
					y.table(date, decision)
				}
			}
			golden(t, filepath.Join("testdata", "year-"+strings.ReplaceAll(name, "/", "-")+".golden"), y.log.String())
		})
	}
}

// golden compares text with a file, line by line.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		line := func(all []string) string {
			if i < len(all) {
				return all[i]
			}
			return "(no such line)"
		}
		if line(gotLines) != line(wantLines) {
			t.Fatalf("%s:%d\n got %s\nwant %s", path, i+1, line(gotLines), line(wantLines))
		}
	}
}
