package app

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/history"
)

// record writes down a run that has ended.
func record(t *testing.T, a *App, run history.Run) int64 {
	t.Helper()
	id, err := a.history.Begin(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if run.Outcome == history.Running {
		return id
	}
	run.ID = id
	if run.FinishedAt.IsZero() {
		run.FinishedAt = run.StartedAt.Add(time.Minute)
	}
	if err := a.history.Finish(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	return id
}

// The document of schedule: when each job runs next, and how it went last.
func TestScheduleRows(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Config.Schedule.Scrub, a.Config.Schedule.Weekly = "0 3 * * 3", "0 5 * * 0"
	a.Config.Notify.Digest = "0 8 * * 1"
	// A manual one and one under way came later: they are not the daily job's.
	record(t, a, history.Run{Job: "backup", Kind: "daily", StartedAt: noon.Add(-6 * time.Hour), Outcome: history.Failed,
		Error: "no space"})
	record(t, a, history.Run{Job: "backup", Kind: "manual", StartedAt: noon.Add(-time.Hour), Outcome: history.OK})
	record(t, a, history.Run{Job: "scrub", StartedAt: noon.Add(-48 * time.Hour), Outcome: history.OK})
	if err := a.history.Serve(t.Context(), "daily", noon.Add(-6*time.Hour)); err != nil {
		t.Fatal(err)
	}
	doc, err := a.Schedule(t.Context(), noon) // a Tuesday
	if err != nil || doc.Timezone != "UTC" {
		t.Fatalf("%+v, %v", doc, err)
	}
	at := func(day, hour int) time.Time { return time.Date(2026, 4, day, hour, 0, 0, 0, time.UTC) }
	want := []struct {
		job, expr string
		next      []time.Time
		last      time.Time
		outcome   string
		err       string
	}{
		{"daily", "0 6 * * *", []time.Time{at(8, 6), at(9, 6), at(10, 6)}, noon.Add(-6 * time.Hour), "failed",
			"no space"},
		{"weekly", "0 5 * * 0", []time.Time{at(12, 5), at(19, 5), at(26, 5)}, time.Time{}, "", ""},
		{"scrub", "0 3 * * 3", []time.Time{at(8, 3), at(15, 3), at(22, 3)}, noon.Add(-48 * time.Hour), "ok", ""},
		{"verify", "0 2 * * 6", []time.Time{at(11, 2), at(18, 2), at(25, 2)}, time.Time{}, "", ""},
		{"digest", "0 8 * * 1", []time.Time{at(13, 8), at(20, 8), at(27, 8)}, time.Time{}, "", ""},
	}
	if len(doc.Jobs) != len(want) {
		t.Fatalf("%+v", doc.Jobs)
	}
	for i, w := range want {
		g := doc.Jobs[i]
		if g.Job != w.job || g.Expr != w.expr || !slices.EqualFunc(g.Next, w.next, time.Time.Equal) ||
			!g.Last.Equal(w.last) || g.LastOutcome != w.outcome || g.LastError != w.err {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
	for i, w := range []string{"sync:disk", "prune"} {
		if g := doc.FollowUps[i]; g.Job != w || len(g.Next) != 1 || !g.Next[0].Equal(at(8, 6)) {
			t.Errorf("%+v does not follow the next take", g)
		}
	}
	data, err := json.Marshal(doc.Jobs[1])
	if err != nil || strings.Contains(string(data), "last_started") {
		t.Errorf("what never ran has a start: %s, %v", data, err)
	}
	next, err := a.NextSlots(t.Context(), noon)
	if err != nil || len(next) != 5 || !next["daily"].Equal(at(8, 6)) {
		t.Errorf("%v, %v", next, err)
	}
}

// A target that was away is tried again long before the next take.
func TestScheduleOfATargetThatWasAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Config.Offsite[0].RetryEvery = config.Duration(2 * time.Hour)
	for _, c := range []struct {
		ago  time.Duration
		want time.Duration // from noon
	}{{30 * time.Minute, 90 * time.Minute}, {5 * time.Hour, 0}} {
		record(t, a, history.Run{Job: SyncJob("disk"), StartedAt: noon.Add(-c.ago), Outcome: history.Skipped})
		doc, err := a.Schedule(t.Context(), noon)
		if err != nil || len(doc.FollowUps) != 2 || !doc.FollowUps[0].Next[0].Equal(noon.Add(c.want)) {
			t.Errorf("%s ago: %+v, %v", c.ago, doc.FollowUps, err)
		}
		a.Config.Schedule.Daily = ""
	}
}

// Slots lie in the zone of the schedule, through the change of the clocks.
func TestScheduleInAZone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	a.Config.Schedule.Timezone, a.Config.Schedule.Verify = "Europe/Berlin", ""
	doc, err := a.Schedule(t.Context(), time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC))
	if err != nil || len(doc.Jobs) != 1 || doc.Timezone != "Europe/Berlin" {
		t.Fatalf("%+v, %v", doc, err)
	}
	for i, want := range []string{"2026-10-25T05:00:00Z", "2026-10-26T05:00:00Z"} { // the clocks go back on the 25th
		if got := doc.Jobs[0].Next[i].UTC().Format(time.RFC3339); got != want {
			t.Errorf("slot %d: %s, want %s", i, got, want)
		}
	}
}

// What is off has no row, and what cannot be read is named by its key.
func TestCrons(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, test := range []struct {
		name            string
		zone, daily     string
		scrub, digest   string
		jobs, errorText string
	}{
		{"all is off", "UTC", "", "", "", "verify", ""},
		{"one is on", "UTC", "0 6 * * *", "", "", "daily verify", ""},
		{"two are on", "UTC", "@daily", "@every 48h", "", "daily scrub verify", ""},
		{"a zone that nobody knows", "Mars/Olympus", "0 6 * * *", "", "", "", "schedule.timezone"},
		{"an expression that is none", "UTC", "at six", "", "", "", "schedule.daily"},
		{"one of six fields", "UTC", "", "0 0 6 * * *", "", "", "schedule.scrub"},
		{"a digest that is none", "UTC", "", "", "weekly", "verify", "notify.digest"},
	} {
		c := &a.Config.Schedule
		c.Timezone, c.Daily, c.Scrub, a.Config.Notify.Digest = test.zone, test.daily, test.scrub, test.digest
		list, err := Crons(a.Config)
		var jobs []string
		for _, s := range list {
			jobs = append(jobs, s.Name)
		}
		if got := strings.Join(jobs, " "); got != test.jobs || (err != nil) != (test.jobs == "") {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
		_, err = a.Schedule(t.Context(), noon)
		if (err != nil) != (test.errorText != "") || err != nil && (failure.KindOf(err) != failure.Config ||
			!strings.Contains(err.Error(), test.errorText)) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestCheckCron(t *testing.T) {
	for expression, good := range map[string]bool{
		"": true, "0 6 * * *": true, "@daily": true, "@every 2h": true, "30 4 1 1,4,7,10 *": true,
		"0 6 * *": false, "61 * * * *": false, "@sometimes": false, "0 6 * * 9": false, "daily": false,
	} {
		if err := CheckCron(expression); (err == nil) != good {
			t.Errorf("%q: %v", expression, err)
		}
	}
}

func TestLongestGap(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		expressions []string
		want        time.Duration
	}{
		{[]string{"0 6 * * *"}, day},
		{[]string{"0 5 * * 0"}, 7 * day},
		{[]string{"0 5 * * 0", "0 6 * * *"}, day},
		{[]string{"0 6 * * *", "no expression"}, day},
		{[]string{"0 6 * * *", ""}, day},
		{[]string{"0 0 * * 1", "0 0 * * 4"}, 4 * day},
	} {
		if got := LongestGap(test.expressions...); got != test.want {
			t.Errorf("%q: %s, want %s", test.expressions, got, test.want)
		}
	}
	if got := SyncJob("laptop"); got != "sync:laptop" {
		t.Error(got)
	}
	if got := VerifyJob("laptop"); got != "verify:laptop" {
		t.Error(got)
	}
}

// The newest run of a take is told by the kind of its snapshot.
func TestLastRun(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for i, run := range []history.Run{
		{Job: "backup", Kind: "daily", Outcome: history.OK, Stamp: "20260407T060000Z"},
		{Job: "backup", Kind: "weekly", Outcome: history.Failed, Error: "torn"},
		{Job: "backup", Kind: "manual", Outcome: history.OK},
		{Job: "backup", Kind: "daily", Outcome: history.Running},
		{Job: "sync:laptop", Outcome: history.Skipped},
	} {
		run.StartedAt = noon.Add(time.Duration(i) * time.Minute)
		record(t, a, run)
	}
	for job, want := range map[string]string{"daily": "ok", "weekly": "failed", "monthly": "", "sync:laptop": "skipped",
		"scrub": ""} {
		run, ok := a.lastRun(t.Context(), job)
		if string(run.Outcome) != want || ok != (want != "") {
			t.Errorf("%s: %+v, %v; want %s", job, run, ok, want)
		}
	}
}
