package retention

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests name zones, whatever the machine has
)

// at parses a stamp.
func at(t testing.TB, stamp string) time.Time {
	t.Helper()
	parsed, err := time.Parse(StampLayout, stamp)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// zone loads a time zone; "" is the nil that stands for UTC.
func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	if name == "" {
		return nil
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return location
}

// parse reads "STAMP kind [full] [invalid] [pinned] [suspect] [use=WHY] [rotten=STAMP]".
func parse(t testing.TB, line string) Snapshot {
	t.Helper()
	words := strings.Fields(line)
	s := Snapshot{Stamp: words[0], Time: at(t, words[0]), Kind: words[1], Valid: true}
	for _, word := range words[2:] {
		switch {
		case word == "full":
			s.Full = true
		case word == "invalid":
			s.Valid = false
		case word == "suspect":
			s.Suspect = true
		case word == "pinned":
			s.Pinned = true
		case strings.HasPrefix(word, "use="):
			s.InUse = word[len("use="):]
		case strings.HasPrefix(word, "rotten="):
			s.Valid, s.InvalidSince = false, at(t, word[len("rotten="):])
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	return s
}

// lines parses one snapshot a line, leaving out what follows " | ".
func lines(t testing.TB, text string) []Snapshot {
	t.Helper()
	var all []Snapshot
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "|")
		if strings.TrimSpace(line) != "" {
			all = append(all, parse(t, line))
		}
	}
	return all
}

// show writes a verdict as the tables below do.
func show(v Verdict) string {
	word := "delete"
	if v.Keep {
		word = "keep"
	}
	return word + ": " + strings.Join(v.Reasons, "; ")
}

const day = Day

// continued is where a line of a table goes on.
var continued = regexp.MustCompile(`\n\s*; `)

// usual is the default configuration.
func usual() Policy {
	return Policy{Daily: 7, Weekly: 4, Monthly: 6, PreRestore: 30 * day, Invalid: 7 * day, MaxDeleteFraction: 1}
}

// TestPlanReasons is the contract in examples: one snapshot a line, what it is,
// and behind the bar the verdict with every reason, which may go on in lines that
// begin with a semicolon. 2026-04-05 is a Sunday.
func TestPlanReasons(t *testing.T) {
	for _, test := range []struct {
		name  string
		p     func(*Policy)
		zone  string
		now   string
		table string
	}{
		{name: "nothing", now: "20260407T120000Z"},
		{name: "one snapshot holds every slot", now: "20260407T120000Z", table: `
			20260407T060000Z manual full | keep: daily 2026-04-07 (1 of 7); weekly 2026-04-07 (Tuesday, 1 of 4)
				; monthly 2026-04-07 (7th, 1 of 6); newest valid; newest full`},
		{name: "newest of a day; the one that lost learns to whom", now: "20260407T190000Z", table: `
			20260405T060000Z weekly full | keep: daily 2026-04-05 (2 of 7); weekly 2026-04-05 (Sunday, 1 of 4)
				; monthly 2026-04-05 (5th, 1 of 6); newest full
			20260407T060000Z daily | delete: daily 2026-04-07 is held by 20260407T180000Z
				; weekly 2026-04-05 is held by 20260405T060000Z; monthly 2026-04-05 is held by 20260405T060000Z
			20260407T180000Z manual | keep: daily 2026-04-07 (1 of 7); newest valid`},
		{
			name: "older than the last",
			p:    func(p *Policy) { p.Daily, p.Weekly, p.Monthly = 2, 1, 1 }, now: "20260407T190000Z", table: `
			20260327T060000Z daily | delete: older than the last 2 days that have a snapshot
				; older than the last week that has a snapshot; older than the last month that has a snapshot
			20260405T060000Z daily | keep: weekly 2026-04-05 (Sunday, 1 of 1); monthly 2026-04-05 (5th, 1 of 1)
			20260406T060000Z daily | keep: daily 2026-04-06 (2 of 2)
			20260407T060000Z daily | keep: daily 2026-04-07 (1 of 2); newest valid`,
		},
		{
			name: "week's edge: Saturday night and Sunday morning",
			p:    func(p *Policy) { *p = Policy{Weekly: 2} }, now: "20260406T000000Z", table: `
			20260329T000000Z daily | keep: weekly 2026-03-29 (Sunday, 2 of 2)
			20260404T235959Z daily | delete: weekly 2026-03-29 is held by 20260329T000000Z
			20260405T000000Z daily | keep: weekly 2026-04-05 (Sunday, 1 of 2); newest valid`,
		},
		{
			name: "missed Sunday: the week's earliest day stands in, by its name",
			p:    func(p *Policy) { *p = Policy{Weekly: 4} }, now: "20260412T120000Z", table: `
			20260407T060000Z daily | keep: weekly 2026-04-07 (Tuesday, 2 of 4)
			20260408T060000Z daily full | keep: newest full
			20260409T060000Z daily | delete: weekly 2026-04-07 is held by 20260407T060000Z
			20260412T060000Z daily | keep: weekly 2026-04-12 (Sunday, 1 of 4); newest valid`,
		},
		{
			name: "on the week's day a full one wins, then the newest",
			p:    func(p *Policy) { *p = Policy{Weekly: 1, Monthly: 1} }, now: "20260501T000000Z", table: `
			20260405T050000Z weekly full | delete: older than the last week that has a snapshot
				; monthly 2026-04-05 is held by 20260405T055900Z
			20260405T055900Z weekly full | keep: monthly 2026-04-05 (5th, 1 of 1); newest full
			20260405T060000Z daily | delete: older than the last week that has a snapshot
				; monthly 2026-04-05 is held by 20260405T055900Z
			20260426T050000Z daily | delete: weekly 2026-04-26 is held by 20260426T060000Z
				; monthly 2026-04-05 is held by 20260405T055900Z
			20260426T060000Z daily | keep: weekly 2026-04-26 (Sunday, 1 of 1); newest valid`,
		},
		{
			name: "for a day the newest wins, full or not",
			p:    func(p *Policy) { *p = Policy{Daily: 1} }, now: "20260501T000000Z", table: `
			20260405T050000Z weekly full | delete: daily 2026-04-05 is held by 20260405T060000Z
			20260405T053000Z weekly full | keep: newest full
			20260405T060000Z daily | keep: daily 2026-04-05 (1 of 1); newest valid`,
		},
		{
			name: "month's edge, leap day, year's edge",
			p:    func(p *Policy) { *p = Policy{Monthly: 4} }, now: "20280301T120000Z", table: `
			20271231T235959Z daily | keep: monthly 2027-12-31 (31st, 4 of 4)
			20280101T000000Z daily | keep: monthly 2028-01-01 (1st, 3 of 4)
			20280131T235959Z daily | delete: monthly 2028-01-01 is held by 20280101T000000Z
			20280229T235959Z daily | keep: monthly 2028-02-29 (29th, 2 of 4)
			20280301T000000Z daily | keep: monthly 2028-03-01 (1st, 1 of 4); newest valid`,
		},
		{
			name: "a month is held by its earliest day whatever its number",
			p:    func(p *Policy) { *p = Policy{Monthly: 6} }, now: "20260501T000000Z", table: `
			20260111T000000Z daily | keep: monthly 2026-01-11 (11th, 4 of 6)
			20260222T000000Z daily | keep: monthly 2026-02-22 (22nd, 3 of 6)
			20260303T000000Z daily | keep: monthly 2026-03-03 (3rd, 2 of 6)
			20260304T000000Z weekly full | keep: newest full
			20260412T000000Z daily | keep: monthly 2026-04-12 (12th, 1 of 6); newest valid`,
		},
		{
			name: "a month off loses nothing",
			p:    func(p *Policy) { *p = Policy{Daily: 2, Weekly: 2} }, now: "20260801T060000Z", table: `
			20260405T060000Z daily | keep: weekly 2026-04-05 (Sunday, 2 of 2)
			20260413T060000Z daily | keep: daily 2026-04-13 (2 of 2); weekly 2026-04-13 (Monday, 1 of 2)
			20260414T060000Z daily | keep: daily 2026-04-14 (1 of 2); newest valid`,
		},
		{name: "Berlin, clocks forward on Sunday 2026-03-29: the day has 23 hours", zone: "Europe/Berlin",
			p: func(p *Policy) { *p = Policy{Daily: 3, Weekly: 2} }, now: "20260330T000000Z", table: `
			20260328T225959Z daily | keep: daily 2026-03-28 (3 of 3); weekly 2026-03-28 (Saturday, 2 of 2)
			20260328T230000Z daily | delete: daily 2026-03-29 is held by 20260329T215959Z
				; weekly 2026-03-29 is held by 20260329T215959Z
			20260329T215959Z daily | keep: daily 2026-03-29 (2 of 3); weekly 2026-03-29 (Sunday, 1 of 2)
			20260329T220000Z daily | keep: daily 2026-03-30 (1 of 3); newest valid`},
		{name: "Berlin, clocks back on Sunday 2026-10-25: the day has 25 hours", zone: "Europe/Berlin",
			p: func(p *Policy) { *p = Policy{Daily: 3, Weekly: 2} }, now: "20261026T000000Z", table: `
			20261024T215959Z daily | keep: daily 2026-10-24 (3 of 3); weekly 2026-10-24 (Saturday, 2 of 2)
			20261024T220000Z daily | delete: daily 2026-10-25 is held by 20261025T225959Z
				; weekly 2026-10-25 is held by 20261025T225959Z
			20261025T225959Z daily | keep: daily 2026-10-25 (2 of 3); weekly 2026-10-25 (Sunday, 1 of 2)
			20261025T230000Z daily | keep: daily 2026-10-26 (1 of 3); newest valid`},
		{name: "New York: Sunday in UTC is still Saturday there, and February is not March", zone: "America/New_York",
			p: func(p *Policy) { *p = Policy{Daily: 1, Weekly: 2, Monthly: 2} }, now: "20260302T000000Z", table: `
			20260201T045959Z daily | delete: older than the last day that has a snapshot
				; older than the last 2 weeks that have a snapshot
				; older than the last 2 months that have a snapshot
			20260201T050000Z daily | keep: monthly 2026-02-01 (1st, 2 of 2)
			20260301T045959Z daily | keep: weekly 2026-02-28 (Saturday, 2 of 2)
			20260301T050000Z daily | keep: daily 2026-03-01 (1 of 1); weekly 2026-03-01 (Sunday, 1 of 2)
				; monthly 2026-03-01 (1st, 1 of 2); newest valid`},
		{
			name: "St. John's 2010-11-07, back over midnight: Sunday begins, is Saturday again, begins again",
			zone: "America/St_Johns",
			p:    func(p *Policy) { *p = Policy{Daily: 2, Weekly: 2} }, now: "20101108T000000Z", table: `
			20101107T023030Z daily | delete: daily 2010-11-07 is held by 20101107T120000Z
				; weekly 2010-11-07 is held by 20101107T120000Z
			20101107T024500Z daily | keep: daily 2010-11-06 (2 of 2); weekly 2010-11-06 (Saturday, 2 of 2)
			20101107T120000Z daily | keep: daily 2010-11-07 (1 of 2); weekly 2010-11-07 (Sunday, 1 of 2)
				; newest valid`},
		{name: "invalid ones hold nothing, and go by age", now: "20260420T060000Z", table: `
			20260412T060000Z daily full invalid | delete: invalid older than 7 days
			20260413T055959Z daily invalid | delete: invalid older than 7 days
			20260413T060000Z daily invalid | keep: invalid, kept 7 days
			20260413T070000Z daily | keep: daily 2026-04-13 (1 of 7); weekly 2026-04-13 (Monday, 1 of 4)
				; monthly 2026-04-13 (13th, 1 of 6); newest valid`},
		{name: "one that rots is kept from the day that it was found, for healing", now: "20260420T060000Z", table: `
			20260101T060000Z daily rotten=20260413T055959Z | delete: found invalid longer ago than 7 days
			20260201T060000Z daily rotten=20260413T060000Z | keep: invalid, kept 7 days
			20260301T060000Z daily rotten=20260201T000000Z | delete: invalid older than 7 days
			20260401T060000Z daily rotten=20990101T000000Z | keep: invalid, kept 7 days
			20260420T060000Z daily | keep: daily 2026-04-20 (1 of 7); weekly 2026-04-20 (Monday, 1 of 4)
				; monthly 2026-04-20 (20th, 1 of 6); newest valid`},
		{name: "failing runs never rotate the good one away", now: "20260601T060000Z", table: `
			20260401T060000Z daily invalid | delete: invalid older than 7 days
			20260402T060000Z daily | keep: daily 2026-04-02 (1 of 7); weekly 2026-04-02 (Thursday, 1 of 4)
				; monthly 2026-04-02 (2nd, 1 of 6); newest valid
			20260403T060000Z daily invalid | keep: invalid, but no newer valid snapshot exists
			20260601T060000Z daily invalid | keep: invalid, kept 7 days; invalid, but no newer valid snapshot exists`},
		{name: "pre-restore ones hold nothing, go by age, and the newest stays", now: "20260601T060000Z", table: `
			20260401T060000Z pre-restore full | keep: newest full of any kind
			20260402T060000Z daily | keep: daily 2026-04-02 (1 of 7); weekly 2026-04-02 (Thursday, 1 of 4)
				; monthly 2026-04-02 (2nd, 1 of 6); newest valid
			20260403T060000Z pre-restore invalid | keep: invalid, but no newer valid snapshot exists
			20260404T060000Z pre-restore | delete: pre-restore older than 30 days
			20260405T060000Z pre-restore | keep: newest valid of any kind; newest pre-restore`},
		{name: "pre-restore within its lifetime, valid or not", now: "20260601T060000Z", table: `
			20260402T060000Z pre-restore invalid | delete: pre-restore older than 30 days; invalid older than 7 days
			20260502T055959Z pre-restore | delete: pre-restore older than 30 days
			20260502T060000Z pre-restore | keep: pre-restore, kept 30 days
			20260530T060000Z pre-restore invalid | keep: newest pre-restore; pre-restore, kept 30 days
				; invalid, kept 7 days
			20260531T060000Z daily full | keep: daily 2026-05-31 (1 of 7); weekly 2026-05-31 (Sunday, 1 of 4)
				; monthly 2026-05-31 (31st, 1 of 6); newest valid; newest full`},
		{
			name: "pinned and in use stay, and still hold their slots",
			p:    func(p *Policy) { *p = Policy{Daily: 1} }, now: "20260501T000000Z", table: `
			20260401T060000Z daily pinned | keep: pinned
			20260402T060000Z daily invalid pinned use=restore | keep: pinned; in use: restore
			20260403T060000Z daily use=upload | keep: in use: upload
			20260404T060000Z daily | delete: older than the last day that has a snapshot
			20260405T060000Z daily pinned | keep: daily 2026-04-05 (1 of 1); newest valid; pinned`,
		},
		{
			name: "the future is kept and pushes nothing out",
			p:    func(p *Policy) { *p = Policy{Daily: 1} }, now: "20260405T060000Z", table: `
			20260404T060000Z daily full | keep: newest full
			20260404T070000Z daily invalid | delete: invalid older than 0 days
			20260405T060000Z daily | keep: daily 2026-04-05 (1 of 1); newest valid
			20260405T060001Z weekly full | keep: in the future
			20990101T000000Z daily full pinned | keep: pinned; in the future`,
		},
		{
			name: "an unknown kind is kept and pushes nothing out",
			p:    func(p *Policy) { *p = Policy{Daily: 1} }, now: "20260501T000000Z", table: `
			20260401T060000Z hourly invalid | keep: unknown kind "hourly"
			20260402T060000Z daily full | keep: daily 2026-04-02 (1 of 1); newest valid; newest full
			20260403T060000Z hourly full | keep: unknown kind "hourly"`,
		},
		{
			name: "a stamp listed twice is kept and pushes nothing out",
			p:    func(p *Policy) { *p = Policy{Daily: 1} }, now: "20260501T000000Z", table: `
			20260402T060000Z daily | keep: daily 2026-04-02 (1 of 1); newest valid
			20260403T060000Z daily | keep: listed 2 times
			20260403T060000Z daily | keep: listed 2 times`,
		},
		{
			name: "no counts: everything stays, and still says what else it is",
			p:    func(p *Policy) { p.Daily, p.Weekly, p.Monthly = 0, -3, 0 }, now: "20260601T000000Z", table: `
			20260101T060000Z pre-restore invalid | keep: newest pre-restore
				; no daily, weekly or monthly count is set: everything is kept
			20260102T060000Z daily invalid | keep: no daily, weekly or monthly count is set: everything is kept
			20260103T060000Z daily | keep: no daily, weekly or monthly count is set: everything is kept
			20260104T060000Z daily full | keep: newest valid; newest full
				; no daily, weekly or monthly count is set: everything is kept`,
		},
		{
			name: "a negative count beside a positive one keeps nothing",
			p:    func(p *Policy) { p.Daily, p.Weekly, p.Monthly = -1, math.MinInt, 1 },
			now:  "20260601T000000Z", table: `
			20260103T060000Z daily | delete: older than the last month that has a snapshot
			20260204T060000Z daily | keep: monthly 2026-02-04 (4th, 1 of 1)
			20260205T060000Z daily | delete: monthly 2026-02-04 is held by 20260204T060000Z
			20260206T060000Z daily | keep: newest valid`,
		},
		{
			name: "lifetimes that are not whole days",
			p:    func(p *Policy) { *p = Policy{Daily: 1, Invalid: 90 * time.Minute, PreRestore: day} },
			now:  "20260405T060000Z", table: `
			20260404T043000Z manual invalid | delete: invalid older than 1h30m0s
			20260404T060000Z pre-restore | keep: pre-restore, kept 1 day
			20260405T043000Z manual invalid | keep: invalid, kept 1h30m0s
			20260405T050000Z pre-restore | keep: newest valid of any kind; newest pre-restore
				; pre-restore, kept 1 day
			20260405T044500Z manual | keep: daily 2026-04-05 (1 of 1); newest valid`,
		},
		{
			name: "weeks start with the weekly job, on Monday here",
			p:    func(p *Policy) { *p = Policy{Weekly: 2, WeekStart: time.Monday} },
			now:  "20260414T000000Z", table: `
			20260405T060000Z daily | delete: older than the last 2 weeks that have a snapshot
			20260406T050000Z weekly full | keep: weekly 2026-04-06 (Monday, 2 of 2)
			20260406T060000Z daily | delete: weekly 2026-04-06 is held by 20260406T050000Z
			20260412T060000Z daily full | delete: weekly 2026-04-06 is held by 20260406T050000Z
			20260413T050000Z weekly full | keep: weekly 2026-04-13 (Monday, 1 of 2); newest full
			20260413T060000Z daily | keep: newest valid`,
		},
		{
			name: "weeks that start on Saturday",
			p:    func(p *Policy) { *p = Policy{Weekly: 2, WeekStart: time.Saturday} },
			now:  "20260412T000000Z", table: `
			20260403T060000Z daily | delete: older than the last 2 weeks that have a snapshot
			20260404T050000Z weekly full | keep: weekly 2026-04-04 (Saturday, 2 of 2)
			20260410T060000Z daily | delete: weekly 2026-04-04 is held by 20260404T050000Z
			20260411T050000Z weekly full | keep: weekly 2026-04-11 (Saturday, 1 of 2); newest valid; newest full`,
		},
		{
			name: "one taken before an upgrade survives the day",
			p:    func(p *Policy) { *p = Policy{Daily: 1, KeepWithin: 48 * time.Hour} },
			now:  "20260407T180000Z", table: `
			20260405T180000Z manual | delete: older than the last day that has a snapshot
			20260405T180001Z manual | keep: younger than 2 days
			20260407T100000Z manual invalid | delete: invalid older than 0 days
			20260407T110000Z pre-restore | keep: newest pre-restore; younger than 2 days
			20260407T120000Z manual full | keep: newest full; younger than 2 days
			20260407T130000Z daily | keep: daily 2026-04-07 (1 of 1); newest valid; younger than 2 days`,
		},
		{
			name: "the first of the month is full where the monthly job ran",
			p:    func(p *Policy) { *p = Policy{Monthly: 1} }, now: "20260402T000000Z", table: `
			20260401T040000Z monthly full | keep: monthly 2026-04-01 (1st, 1 of 1); newest full
			20260401T060000Z daily | keep: newest valid`,
		},
		{
			name: "what was valid before a suspect one stays",
			p:    func(p *Policy) { *p = Policy{Daily: 1, Suspect: 30 * day} }, now: "20260505T060000Z", table: `
			20260401T060000Z daily invalid | delete: invalid older than 0 days
			20260402T060000Z daily full | keep: newest full; valid before 20260405T060000Z, which is suspect
			20260404T060000Z pre-restore | keep: newest pre-restore; valid before 20260405T060000Z, which is suspect
			20260405T060000Z daily suspect | keep: suspect, and not accepted
			20260406T060000Z daily | delete: older than the last day that has a snapshot
			20260505T060000Z daily | keep: daily 2026-05-05 (1 of 1); newest valid`,
		},
		{
			name: "… until its days are over",
			p:    func(p *Policy) { *p = Policy{Daily: 1, Suspect: 30 * day} }, now: "20260505T060001Z", table: `
			20260402T060000Z daily | delete: older than the last day that has a snapshot
			20260405T060000Z daily suspect | delete: older than the last day that has a snapshot
			20260505T060000Z daily | keep: daily 2026-05-05 (1 of 1); newest valid`,
		},
		{
			name: "the newest of several suspect ones counts, also where a clock was set back",
			p:    func(p *Policy) { *p = Policy{Daily: 1, Suspect: day} }, now: "20260405T120000Z", table: `
			20260402T060000Z daily | keep: valid before 20260406T060000Z, which is suspect
			20260405T060000Z daily suspect | keep: daily 2026-04-05 (1 of 1); newest valid
				; valid before 20260406T060000Z, which is suspect; suspect, and not accepted
			20260406T060000Z daily suspect | keep: in the future`,
		},
		{
			name: "each of several suspect ones stays, whoever made the newest",
			p:    func(p *Policy) { *p = Policy{Daily: 1, Suspect: 30 * day} }, now: "20260405T120000Z", table: `
			20260402T060000Z daily invalid suspect | keep: suspect, and not accepted
			20260403T060000Z daily | keep: daily 2026-04-03 (1 of 1); newest valid that was not adopted
				; valid before 20260404T060000Z, which is suspect
			20260404T060000Z adopted suspect | keep: daily 2026-04-04 (1 of 1); newest valid
				; suspect, and not accepted`,
		},
		{
			name: "an adopted one holds what none of ours does, and pushes none of ours out",
			p:    func(p *Policy) { *p = Policy{Daily: 2, Weekly: 1} }, now: "20260412T000000Z", table: `
			20260404T060000Z adopted | delete: older than the last 2 days that have a snapshot
				; older than the last week that has a snapshot
			20260405T060000Z adopted full | delete: older than the last 2 days that have a snapshot
				; weekly 2026-04-06 is held by 20260406T060000Z
			20260406T060000Z daily | keep: daily 2026-04-06 (2 of 2); weekly 2026-04-06 (Monday, 1 of 1)
			20260407T060000Z daily full | keep: daily 2026-04-07 (1 of 2); newest valid that was not adopted
				; newest full that was not adopted
			20260407T180000Z adopted | delete: daily 2026-04-07 is held by 20260407T060000Z
				; weekly 2026-04-06 is held by 20260406T060000Z
			20260408T060000Z adopted | keep: daily 2026-04-08 (2 of 2)
			20260409T060000Z adopted full | keep: daily 2026-04-09 (1 of 2); newest valid; newest full`,
		},
		{
			name: "only adopted ones count like others",
			p:    func(p *Policy) { *p = Policy{Daily: 1, Weekly: 1, Invalid: day} },
			now:  "20260412T000000Z", table: `
			20260405T060000Z adopted full | keep: weekly 2026-04-05 (Sunday, 1 of 1); newest full
			20260408T060000Z adopted invalid | delete: invalid older than 1 day
			20260409T060000Z adopted | keep: daily 2026-04-09 (1 of 1); newest valid`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := usual()
			if test.p != nil {
				test.p(&p)
			}
			p.Location = zone(t, test.zone)
			want := map[string]string{}
			table := continued.ReplaceAllString(test.table, "; ")
			for line := range strings.Lines(table) {
				if snapshot, verdict, ok := strings.Cut(line, " | "); ok {
					want[strings.Fields(snapshot)[0]] = strings.TrimSpace(verdict)
				}
			}
			snapshots := lines(t, table)
			d := Plan(snapshots, p, at(t, test.now))
			if len(d.Verdicts) != len(snapshots) {
				t.Errorf("%d verdicts for %d snapshots", len(d.Verdicts), len(snapshots))
			}
			for i, v := range d.Verdicts {
				if i > 0 && v.Stamp < d.Verdicts[i-1].Stamp {
					t.Errorf("%s is not oldest first", v.Stamp)
				}
				if got := show(v); got != want[v.Stamp] {
					t.Errorf("%s\n got %s\nwant %s", v.Stamp, got, want[v.Stamp])
				}
			}
			if len(d.Keep())+len(d.Delete()) != len(d.Verdicts) {
				t.Error("Keep and Delete are not all verdicts")
			}
		})
	}
}

// TestPlanTotal feeds what no caller should: it must neither panic nor delete.
func TestPlanTotal(t *testing.T) {
	now := at(t, "20260601T000000Z")
	good := parse(t, "20260601T000000Z daily full")
	p := Policy{Daily: 1, MaxDeleteFraction: 1}
	for name, s := range map[string]Snapshot{
		"nothing set":     {},
		"zero time":       {Stamp: "20260401T060000Z", Kind: KindDaily, Valid: true},
		"another time":    {Stamp: "20260401T060000Z", Time: now.AddDate(0, 0, -1), Kind: KindDaily},
		"malformed stamp": {Stamp: "../../etc", Time: now.AddDate(-1, 0, 0), Kind: KindDaily, Valid: true},
		"the end of time": {
			Stamp: "99991231T235959Z",
			Time:  time.Unix(math.MaxInt64, 0),
			Kind:  KindDaily,
			Valid: true,
		},
		"the start of time":  {Stamp: "00010101T000000Z", Time: time.Unix(math.MinInt64, 0), Kind: KindDaily},
		"no kind":            {Stamp: "20260401T060000Z", Time: at(t, "20260401T060000Z"), Valid: true},
		"kind in capitals":   {Stamp: "20260401T060000Z", Time: at(t, "20260401T060000Z"), Kind: "Daily"},
		"same stamp as good": {Stamp: good.Stamp, Time: now, Kind: KindDaily},
	} {
		d := Plan([]Snapshot{good, s}, p, now)
		if len(d.Delete()) != 0 || len(d.Verdicts) != 2 || len(d.Warnings) != 1 {
			t.Errorf("%s: %+v", name, d)
		}
		Plan(
			[]Snapshot{good, s},
			Policy{Daily: math.MaxInt, Weekly: math.MinInt, Invalid: math.MaxInt64, PreRestore: math.MinInt64},
			time.Time{},
		)
	}
}

func TestPlanWarnings(t *testing.T) {
	twin := parse(t, "20260301T060000Z daily")
	d := Plan(append(lines(t, `
		20260401T060000Z hourly
		20270401T060000Z daily
		20260402T060000Z daily`), twin, twin), usual(), at(t, "20260601T000000Z"))
	want := []string{
		"20260301T060000Z: listed 2 times: kept, and counted nowhere",
		`20260401T060000Z: unknown kind "hourly": kept, and counted nowhere`,
		"20270401T060000Z: in the future: kept, and counted nowhere",
	}
	if !reflect.DeepEqual(d.Warnings, want) {
		t.Errorf("warnings\n got %q\nwant %q", d.Warnings, want)
	}
}

// TestPlanHeld keeps one of a day's valid snapshots, so all but one go.
func TestPlanHeld(t *testing.T) {
	for _, test := range []struct {
		valid, invalid, future int
		fraction               float64
		want                   string
	}{
		{valid: 4, fraction: 0.5},
		{
			valid:    5,
			fraction: 0.5,
			want:     "4 of 5 valid snapshots would be deleted, more than max_delete_fraction 0.5 allows",
		},
		{valid: 5, fraction: 0.8},
		{
			valid:    5,
			fraction: 0.79,
			want:     "4 of 5 valid snapshots would be deleted, more than max_delete_fraction 0.79 allows",
		},
		{valid: 4, invalid: 20, fraction: 0.5},
		{valid: 5, invalid: 20, fraction: 0.8},
		{
			valid:    5,
			future:   20,
			fraction: 0.5,
			want:     "4 of 5 valid snapshots would be deleted, more than max_delete_fraction 0.5 allows",
		},
		{valid: 50, fraction: 1},
		{valid: 50, fraction: math.Inf(1)},
		{valid: 4, fraction: 0},
		{
			valid:    5,
			fraction: 0,
			want:     "4 of 5 valid snapshots would be deleted, more than max_delete_fraction 0 allows",
		},
		{
			valid:    5,
			fraction: -1,
			want:     "4 of 5 valid snapshots would be deleted, more than max_delete_fraction -1 allows",
		},
		{
			valid:    5,
			fraction: math.NaN(),
			want:     "4 of 5 valid snapshots would be deleted, more than max_delete_fraction NaN allows",
		},
	} {
		now := at(t, "20260405T120000Z")
		var all []Snapshot
		add := func(n int, from time.Time, valid bool) {
			for i := range n {
				when := from.Add(time.Duration(i) * time.Second)
				all = append(all, Snapshot{Stamp: when.Format(StampLayout), Time: when, Kind: KindDaily, Valid: valid})
			}
		}
		add(test.invalid, now.Add(-2*time.Hour), false)
		add(test.valid, now.Add(-time.Hour), true)
		add(test.future, now.Add(time.Hour), true)
		d := Plan(all, Policy{Daily: 1, MaxDeleteFraction: test.fraction}, now)
		if d.HeldReason != test.want || d.Held != (test.want != "") {
			t.Errorf("%+v: held %v: %s", test, d.Held, d.HeldReason)
		}
		if got := len(d.Delete()); got != test.valid-1+test.invalid {
			t.Errorf("%+v: a held plan must still show its deletions, has %d", test, got)
		}
	}
}

func TestOrdinal(t *testing.T) {
	want := strings.Fields("1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th 11th 12th 13th 14th 15th 16th " +
		"17th 18th 19th 20th 21st 22nd 23rd 24th 25th 26th 27th 28th 29th 30th 31st")
	for i, w := range want {
		if got := ordinal(i + 1); got != w {
			t.Errorf("ordinal(%d) = %s", i+1, got)
		}
	}
}

// ExamplePlan prints a plan as a dry run would.
func ExamplePlan() {
	var snapshots []Snapshot
	for _, stamp := range []string{"20260405T050000Z", "20260406T060000Z", "20260407T060000Z"} {
		when, _ := time.Parse(StampLayout, stamp)
		snapshots = append(snapshots, Snapshot{Stamp: stamp, Time: when, Kind: KindDaily, Valid: true})
	}
	now := time.Date(2026, 4, 7, 6, 5, 0, 0, time.UTC)
	for _, v := range Plan(snapshots, Policy{Daily: 1, Weekly: 1, MaxDeleteFraction: 0.5}, now).Verdicts {
		fmt.Println(v.Stamp, strings.ReplaceAll(show(v), "; ", ";\n    "))
	}
	// Output:
	// 20260405T050000Z keep: weekly 2026-04-05 (Sunday, 1 of 1)
	// 20260406T060000Z delete: older than the last day that has a snapshot;
	//     weekly 2026-04-05 is held by 20260405T050000Z
	// 20260407T060000Z keep: daily 2026-04-07 (1 of 1);
	//     newest valid
}
