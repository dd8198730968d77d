package scheduler

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the table must not depend on the machine's zones
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func mustParse(t testing.TB, expr string, loc *time.Location) *Cron {
	t.Helper()
	c, err := Parse(expr, loc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestNext(t *testing.T) {
	const (
		utc, berlin, york, howe = "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
		paulo, apia             = "America/Sao_Paulo", "Pacific/Apia"
	)
	for _, row := range []struct{ why, zone, expr, after, want string }{
		// Plain.
		{"later the same day", utc, "0 6 * * *", "2026-04-07T05:59:59Z", "2026-04-07T06:00:00Z"},
		{"strictly after", utc, "0 6 * * *", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z"},
		{"a fraction of a second before", utc, "0 6 * * *", "2026-04-07T05:59:59.999Z", "2026-04-07T06:00:00Z"},
		{"a fraction of a second after", utc, "0 6 * * *", "2026-04-07T06:00:00.001Z", "2026-04-08T06:00:00Z"},
		{"weekly", utc, "0 5 * * 0", "2026-04-07T00:00:00Z", "2026-04-12T05:00:00Z"},
		{"weekly by name", utc, "0 5 * * sun", "2026-04-12T05:00:00Z", "2026-04-19T05:00:00Z"},
		{"quarterly", utc, "0 7 1 1,4,7,10 *", "2026-04-01T07:00:00Z", "2026-07-01T07:00:00Z"},
		{"over the year's end", utc, "0 7 1 1,4,7,10 *", "2026-12-31T00:00:00Z", "2027-01-01T07:00:00Z"},
		{"day of month or of week", utc, "0 0 13 * 5", "2026-04-07T00:00:00Z", "2026-04-10T00:00:00Z"},
		{"the 31st skips short months", utc, "0 0 31 * *", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"},
		{"29 February", utc, "0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"steps in minutes", utc, "*/15 * * * *", "2026-04-07T23:46:00Z", "2026-04-08T00:00:00Z"},
		{"a range of minutes", utc, "20-35/15 * * * *", "2026-04-07T23:36:00Z", "2026-04-08T00:20:00Z"},
		{"@daily", utc, "@daily", "2026-04-07T00:00:00Z", "2026-04-08T00:00:00Z"},
		{"@weekly", utc, "@weekly", "2026-04-07T00:00:00Z", "2026-04-12T00:00:00Z"},
		{"@monthly", utc, "@monthly", "2026-04-07T00:00:00Z", "2026-05-01T00:00:00Z"},
		{"@yearly", utc, "@yearly", "2026-04-07T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"@hourly", utc, "@hourly", "2026-04-07T00:00:00Z", "2026-04-07T01:00:00Z"},
		{"@every from a slot", utc, "@every 90m", "2026-04-07T00:00:07Z", "2026-04-07T01:30:07Z"},
		{"spaces around", utc, "  0 6 * * *  ", "2026-04-07T05:00:00Z", "2026-04-07T06:00:00Z"},
		{"the zone's own clock", berlin, "0 6 * * *", "2026-01-01T00:00:00Z", "2026-01-01T06:00:00+01:00"},

		// Berlin, spring: 02:00 becomes 03:00 on 29 March.
		{"before the gap's day", berlin, "30 2 * * *", "2026-03-28T00:00:00+01:00", "2026-03-28T02:30:00+01:00"},
		{"in the gap: first instant after it", berlin, "30 2 * * *", "2026-03-28T02:30:00+01:00",
			"2026-03-29T03:00:00+02:00"},
		{"only once", berlin, "30 2 * * *", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"},
		{"the gap's first minute", berlin, "0 2 * * *", "2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"the gap's last minute", berlin, "59 2 * * *", "2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"just before the gap", berlin, "59 1 * * *", "2026-03-28T03:00:00+01:00", "2026-03-29T01:59:00+01:00"},
		{"just after the gap", berlin, "0 3 * * *", "2026-03-28T04:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"weekly in the gap", berlin, "30 2 * * 0", "2026-03-23T00:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"weekly after the gap", berlin, "30 2 * * 0", "2026-03-29T03:00:00+02:00", "2026-04-05T02:30:00+02:00"},
		{"named hours around: gap and 03:00 are one", berlin, "0 1-3 * * *", "2026-03-29T01:00:00+01:00",
			"2026-03-29T03:00:00+02:00"},
		{"and then the next day", berlin, "0 1-3 * * *", "2026-03-29T03:00:00+02:00", "2026-03-30T01:00:00+02:00"},
		{"quarters of a named hour in the gap", berlin, "*/15 2 * * *", "2026-03-29T00:00:00+01:00",
			"2026-03-29T03:00:00+02:00"},
		{"hourly through the gap", berlin, "0 * * * *", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"half past each hour skips the gap", berlin, "30 * * * *", "2026-03-29T01:30:00+01:00",
			"2026-03-29T03:30:00+02:00"},
		{"quarters through the gap", berlin, "*/15 * * * *", "2026-03-29T01:45:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"every second hour: 02:00 is skipped", berlin, "0 */2 * * *", "2026-03-29T00:00:00+01:00",
			"2026-03-29T04:00:00+02:00"},
		{"@every ignores the clock", berlin, "@every 1h", "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"},

		// Berlin, autumn: 03:00 becomes 02:00 on 25 October.
		{"the first showing", berlin, "30 2 * * *", "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"not the second", berlin, "30 2 * * *", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"},
		{"asked between the showings", berlin, "30 2 * * *", "2026-10-25T02:10:00+01:00", "2026-10-26T02:30:00+01:00"},
		{"asked in the first showing", berlin, "30 2 * * *", "2026-10-25T02:10:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"asked at the change", berlin, "0 2 * * *", "2026-10-25T02:00:00+01:00", "2026-10-26T02:00:00+01:00"},
		{"03:00 is shown once", berlin, "0 3 * * *", "2026-10-25T02:30:00+02:00", "2026-10-25T03:00:00+01:00"},
		{"weekly, once", berlin, "30 2 * * 0", "2026-10-25T02:30:00+02:00", "2026-11-01T02:30:00+01:00"},
		{"quarters of a named hour: not again", berlin, "*/15 2 * * *", "2026-10-25T02:45:00+02:00",
			"2026-10-26T02:00:00+01:00"},
		{"hourly: first showing", berlin, "0 * * * *", "2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00"},
		{"hourly: second showing", berlin, "0 * * * *", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"},
		{"hourly: and on", berlin, "0 * * * *", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"},
		{"quarters into the second showing", berlin, "*/15 * * * *", "2026-10-25T02:45:00+02:00",
			"2026-10-25T02:00:00+01:00"},

		// New York: 8 March, 1 November.
		{"gap", york, "30 2 * * *", "2026-03-07T12:00:00-05:00", "2026-03-08T03:00:00-04:00"},
		{"after the gap", york, "30 2 * * *", "2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"},
		{"first showing", york, "30 1 * * *", "2026-10-31T12:00:00-04:00", "2026-11-01T01:30:00-04:00"},
		{"not the second", york, "30 1 * * *", "2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"},

		// Lord Howe changes by half an hour: 4 October, 5 April.
		{"half-hour gap", howe, "15 2 * * *", "2026-10-03T12:00:00+10:30", "2026-10-04T02:30:00+11:00"},
		{"on the gap's end", howe, "30 2 * * *", "2026-10-03T12:00:00+10:30", "2026-10-04T02:30:00+11:00"},
		{"half-hour overlap, first", howe, "45 1 * * *", "2026-04-04T12:00:00+11:00", "2026-04-05T01:45:00+11:00"},
		{"half-hour overlap, not again", howe, "45 1 * * *", "2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"},
		{"hourly: 02:00 falls into the gap", howe, "0 * * * *", "2026-10-04T01:00:00+10:30",
			"2026-10-04T03:00:00+11:00"},
		{"every half hour, through the gap", howe, "*/30 * * * *", "2026-10-04T01:30:00+10:30",
			"2026-10-04T02:30:00+11:00"},
		{"every half hour, through the overlap", howe, "*/30 * * * *", "2026-04-05T01:30:00+11:00",
			"2026-04-05T01:30:00+10:30"},

		// Midnight itself may be missing, and even a whole day.
		{"no midnight", paulo, "@daily", "2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"},
		{"midnight again", paulo, "@daily", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"},
		{"no 30 December", apia, "0 6 * * *", "2011-12-29T06:00:00-10:00", "2011-12-31T00:00:00+14:00"},
		{"31 December", apia, "0 6 * * *", "2011-12-31T00:00:00+14:00", "2011-12-31T06:00:00+14:00"},
	} {
		c := mustParse(t, row.expr, zone(t, row.zone))
		if got, want := c.Next(at(t, row.after)), at(t, row.want); !got.Equal(want) {
			t.Errorf("%s: %q in %s after %s:\n got %s\nwant %s", row.why, row.expr, row.zone, row.after,
				got.Format(time.RFC3339), row.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for expr, want := range map[string]string{
		"TZ=Europe/Berlin 0 6 * * *": "set schedule.timezone",
		"CRON_TZ=UTC 0 6 * * *":      "set schedule.timezone",
		"TZ=":                        "set schedule.timezone",
		"0 6 * *":                    "expected exactly 5 fields",
		"0 0 6 * * *":                "expected exactly 5 fields",
		"60 6 * * *":                 "above maximum",
		"0 6 * * 7":                  "Sunday is 0",
		"0 6 * * XYZ":                "failed to parse int",
		"0/0 6 * * *":                "positive number",
		"0 0 30 2 *":                 "never comes",
		", 6 * * *":                  "never comes",
		"@reboot":                    "unrecognized descriptor",
		"@every":                     "unrecognized descriptor",
		"@every soon":                "invalid duration",
		"@every 10ms":                "at least 1s",
		"@every -1h":                 "at least 1s",
	} {
		c, err := Parse(expr, nil)
		if err == nil {
			t.Errorf("%q was accepted as %v", expr, c)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want it to say %q", expr, err, want)
		}
	}
}

func TestEmptyIsOff(t *testing.T) {
	c, err := Parse(" ", nil)
	if c != nil || err != nil {
		t.Fatalf("got %v, %v", c, err)
	}
	if next := c.Next(time.Now()); !next.IsZero() {
		t.Errorf("a job that is off is due at %v", next)
	}
	if slots, _ := c.Due(time.Time{}, time.Now(), 5); len(slots) > 0 {
		t.Errorf("a job that is off has slots %v", slots)
	}
	if slots := c.Upcoming(time.Time{}, time.Now(), 5); len(slots) > 0 || c.String() != "" {
		t.Errorf("a job that is off is upcoming at %v", slots)
	}
}

func TestDue(t *testing.T) {
	for _, row := range []struct {
		why, expr, served, now string
		limit, count           int
		first                  string
		more                   bool
	}{
		{"none yet", "0 6 * * *", "2026-04-07T06:00:00Z", "2026-04-08T05:59:59Z", 9, 0, "", false},
		{"now counts", "0 6 * * *", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z", 9, 1,
			"2026-04-08T06:00:00Z", false},
		{"a week off", "0 6 * * *", "2026-04-07T06:00:00Z", "2026-04-14T07:00:00Z", 9, 7,
			"2026-04-08T06:00:00Z", false},
		{"exactly the limit", "0 6 * * *", "2026-04-07T06:00:00Z", "2026-04-14T07:00:00Z", 7, 7,
			"2026-04-08T06:00:00Z", false},
		{"the newest of them", "0 6 * * *", "2026-04-07T06:00:00Z", "2026-04-14T07:00:00Z", 2, 2,
			"2026-04-13T06:00:00Z", true},
		{"each minute for ten years", "* * * * *", "2016-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 3, 3,
			"2025-12-31T23:58:00Z", true},
		{"from the year 1", "0 6 * * *", "0001-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 1, 1,
			"2026-01-01T06:00:00Z", true},
		{"the clock is behind", "0 6 * * *", "2026-04-07T06:00:00Z", "2026-04-01T00:00:00Z", 9, 0, "", false},
		{"rare", "0 0 29 2 *", "2024-02-29T00:00:00Z", "2026-01-01T00:00:00Z", 9, 0, "", false},
		{"@every keeps its phase", "@every 1h", "2026-04-07T06:00:07Z", "2026-04-07T09:00:00Z", 9, 2,
			"2026-04-07T07:00:07Z", false},
		{"@every, the newest", "@every 1s", "2016-04-07T06:00:00Z", "2026-04-07T06:00:00Z", 2, 2,
			"2026-04-07T05:59:59Z", true},
	} {
		c := mustParse(t, row.expr, nil)
		slots, more := c.Due(at(t, row.served), at(t, row.now), row.limit)
		if len(slots) != row.count || more != row.more {
			t.Errorf("%s: got %d slots %v, more %v; want %d, %v", row.why, len(slots), slots, more, row.count, row.more)
			continue
		}
		if row.count > 0 && !slots[0].Equal(at(t, row.first)) {
			t.Errorf("%s: the oldest is %v, want %s", row.why, slots[0], row.first)
		}
	}
}

func TestUpcoming(t *testing.T) {
	served, now := at(t, "2026-04-07T06:00:07Z"), at(t, "2026-04-07T09:30:00Z")
	got := Every(time.Hour).Upcoming(served, now, 2)
	if len(got) != 2 || !got[0].Equal(at(t, "2026-04-07T10:00:07Z")) || !got[1].Equal(at(t, "2026-04-07T11:00:07Z")) {
		t.Errorf("@every counts from the served slot, got %v", got)
	}
	got = mustParse(t, "30 2 * * *", zone(t, "Europe/Berlin")).Upcoming(served, at(t, "2026-03-28T12:00:00Z"), 2)
	if len(got) != 2 || !got[0].Equal(at(t, "2026-03-29T01:00:00Z")) || !got[1].Equal(at(t, "2026-03-30T00:30:00Z")) {
		t.Errorf("over the gap, got %v", got)
	}
}

func TestWeekday(t *testing.T) {
	tests := []struct {
		expr string
		want time.Weekday
		one  bool
	}{
		{"0 5 * * 0", time.Sunday, true}, {"0 5 * * SAT", time.Saturday, true}, {"*/5 1 * 3 mon", time.Monday, true},
		{"@weekly", time.Sunday, true},
		{"0 5 * * *", 0, false}, {"0 5 * * ?", 0, false}, {"0 5 * * 1,4", 0, false}, {"0 5 * * 1-5", 0, false},
		{"0 5 * * */2", 0, false},
		{"0 5 1 * 3", 0, false}, {"@every 168h", 0, false}, {"@monthly", 0, false}, {"", 0, false},
	}
	for _, test := range tests {
		c, err := Parse(test.expr, nil)
		if err != nil {
			t.Fatal(err)
		}
		if day, one := c.Weekday(); day != test.want || one != test.one {
			t.Errorf("%q: %v, %v, want %v, %v", test.expr, day, one, test.want, test.one)
		}
	}
}
