package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/snapshot"
)

// drawMonth writes a month as text: marks, ' for off-site, * for today.
func drawMonth(m month) string {
	var b strings.Builder
	for _, week := range m.Weeks {
		for _, c := range week {
			text := "."
			if c.Day > 0 {
				text = fmt.Sprint(c.Day)
			}
			switch {
			case c.Class == "bad":
				text += "!"
			case c.Class == "away":
				text += "o"
			case c.Class == "spare":
				text += "-"
			}
			text += c.Marks
			if c.Away {
				text += "'"
			}
			if c.Today {
				text += "*"
			}
			fmt.Fprintf(&b, "%-6s", text)
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(strings.TrimRight(b.String(), " \n"), " \n", "\n")
}

// TestCalendar draws the months of an installation that runs well.
func TestCalendar(t *testing.T) {
	v := newDashboard(bigScene(t))
	if len(v.Months) != 6 || v.Months[0].Name != "November 2025" || v.Months[5].Name != "April 2026" {
		t.Fatalf("%d months, from %s", len(v.Months), v.Months[0].Name)
	}
	for i, want := range map[int]string{
		4: `
1M'   2     3     4     5     6     7
8o'   9     10    11    12    13    14
15W'  16    17    18    19    20    21
22W'  23    24    25    26    27    28
29W'  30    31    .     .     .     .`,
		5: `
.     .     .     1DM'  2D'   3D'   4D'
5DW'  6D'   7D'*  8     9     10    11
12    13    14    15    16    17    18
19    20    21    22    23    24    25
26    27    28    29    30    .     .`,
	} {
		var lines []string
		for line := range strings.Lines(drawMonth(v.Months[i])) {
			lines = append(lines, strings.TrimRight(line, " \n"))
		}
		if got := "\n" + strings.Join(lines, "\n"); got != want {
			t.Errorf("%s:%s\nwant:%s", v.Months[i].Name, got, want)
		}
	}
	today := v.Months[5].Weeks[1][2]
	if today.Link != "/snapshots/20260407T040000Z" ||
		today.Label != "7 April; 20260407T040000Z, daily 1 of 7, off-site on cupboard" {
		t.Errorf("today: %+v", today)
	}
}

// TestCalendarGoesByTheZone puts a snapshot of the last minutes of a day in UTC
// into the next one in Berlin, and the best of a day in front.
func TestCalendarGoesByTheZone(t *testing.T) {
	yes, no := true, false
	st := &State{Now: sceneNow, Location: berlin(t), Snapshots: []snapshot.Snapshot{
		{Stamp: "20260331T223000Z", Kind: snapshot.Daily, Valid: &yes},
		{Stamp: "20260401T100000Z", Kind: snapshot.Manual, Valid: &yes},
		{Stamp: "20260401T110000Z", Kind: snapshot.Manual, Valid: &no},
	}}
	st.judge()
	months := newDashboard(st).Months
	if len(months) != 1 || months[0].Name != "April 2026" {
		t.Fatalf("%d months, from %s: those before the first snapshot say nothing", len(months), months[0].Name)
	}
	c := months[0].Weeks[0][3]
	if c.Day != 1 || c.Link != "/snapshots/20260401T100000Z" || c.Class != "monthly" || c.Marks != "DWM" ||
		strings.Count(c.Label, ";") != 3 || !strings.Contains(c.Label, "20260401T110000Z, not valid") {
		t.Errorf("1 April: %+v", c)
	}
}

// TestCalendarHasEveryDayOnce in months of any length.
func TestCalendarHasEveryDayOnce(t *testing.T) {
	for first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); first.Year() < 2034; first = first.AddDate(0, 1, 0) {
		next := 1
		for _, week := range newMonth(first, nil, "").Weeks {
			for i, c := range week {
				if c.Day == 0 {
					continue
				}
				if day := first.AddDate(0, 0, next-1); c.Day != next || int(day.Weekday()) != i {
					t.Fatalf("%s: day %d in column %d", first.Format("2006-01"), c.Day, i)
				}
				next++
			}
		}
		if last := first.AddDate(0, 1, -1).Day(); next != last+1 {
			t.Errorf("%s ends on %d, not %d", first.Format("2006-01"), next-1, last)
		}
	}
}
