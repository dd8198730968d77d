package health

import (
	"strings"
	"testing"
	"time"
)

// The digest says of the report what every other mouth says, and adds figures.
func TestDigest(t *testing.T) {
	days := 200
	at := func(ago time.Duration) *time.Time {
		when := noon.Add(-ago)
		return &when
	}
	status := func(change func(*Status)) Status {
		s := Status{
			Report: Report{Level: LevelOK, Legs: []Leg{
				{Name: LegSnapshot, Level: LevelOK, Watched: true, LastSuccess: at(6 * hour)},
				{Name: LegDrill, Level: LevelOK, Message: `not watched: alarms.drill = "off"`},
			}},
			Snapshots: SnapshotsStatus{Count: 15, Valid: 14, Full: 5, Bytes: 3 << 30, Newest: "20260407T060000Z",
				NewestFull: "20260405T050000Z"},
			Space:   &SpaceStatus{Free: 50 << 30, FullInDays: &days},
			Targets: []TargetStatus{{Name: "laptop", Snapshots: 14, Newest: "20260406T060000Z", Behind: 1}},
		}
		change(&s)
		return s
	}
	lately := Lately{Sent: map[string]int64{"laptop": 20 << 20}, Runs: []Run{
		{Job: "backup", Outcome: OK}, {Job: "backup", Outcome: Failed}, {Job: "sync:laptop", Outcome: Skipped},
		{Job: "scrub", Outcome: TimedOut},
	}}
	for _, test := range []struct {
		name   string
		status Status
		lately Lately
		want   []string
		not    string
	}{
		{"all is well", status(func(*Status) {}), lately, []string{
			"atobackupd on dalidou: all is well",
			"You can restore to 2026-04-07 06:00 UTC, and with the vector store to 2026-04-05 05:00 UTC.",
			"Here: 15 snapshots, 14 of them valid, 5 with the vector store, 3072 MiB.",
			"Disk: 50 GiB free, full in 200 days.",
			"On laptop: 14 snapshots, newest of 2026-04-06 06:00 UTC, 1 behind; 20 MiB sent in 7 days.",
			"In 7 days: runs: 2 of backup (1 failed), 1 of scrub (1 failed), 1 of sync.",
			"snapshot: last went well at 2026-04-07 06:00 UTC",
			`drill: not watched: alarms.drill = "off"`,
		}, "CRITICAL"},
		{"nothing happened", status(func(s *Status) { s.Space.FullInDays = nil }), Lately{},
			[]string{"no end in sight", "In 7 days: nothing ran.", "0 KiB sent"}, ""},
		{"no vector store", status(func(s *Status) { s.Snapshots.NewestFull = "" }), lately,
			[]string{"You can restore to 2026-04-07 06:00 UTC."}, "vector store to"},
		{"a target that got nothing", status(func(s *Status) { s.Targets[0].Newest = "" }), lately,
			[]string{"On laptop: 14 snapshots, nothing yet, 1 behind"}, ""},
		{"nothing to restore to", status(func(s *Status) {
			s.Level, s.Snapshots = LevelCritical, SnapshotsStatus{}
			s.Legs[0] = Leg{Name: LegSnapshot, Level: LevelCritical, Watched: true, Message: "there is none",
				Hint: "atobackupd backup"}
		}), lately, []string{
			"atobackupd on dalidou: not all is well", "There is nothing to restore to.",
			"CRITICAL snapshot: there is none: atobackupd backup",
		}, ": all is well"},
		{"a condition", status(func(s *Status) {
			s.Level = LevelWarning
			s.Conditions = []Condition{{Name: ConditionClock, Level: LevelWarning, Message: "dated in the future"}}
		}), lately, []string{"not all is well", "WARNING clock: dated in the future"}, ""},
		{"no disk to ask", status(func(s *Status) { s.Space = nil }), lately, nil, "Disk:"},
	} {
		title, body := Digest(test.status, test.lately, "dalidou")
		text := title + "\n" + body
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: it lacks %q:\n%s", test.name, want, text)
			}
		}
		if test.not != "" && strings.Contains(text, test.not) {
			t.Errorf("%s: it has %q:\n%s", test.name, test.not, text)
		}
	}
}
