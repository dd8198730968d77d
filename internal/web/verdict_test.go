package web

import (
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot"
)

// shown is a verdict as somebody reads it from the top.
func shown(v verdict) string {
	lines := []string{v.Level, v.Headline, v.Detail, v.Command, v.Restore, v.Vectors}
	for _, p := range v.Others {
		lines = append(lines, "also "+p.Level+": "+p.Text+" | "+p.Detail+" | "+p.Command)
	}
	return strings.Join(lines, "\n")
}

func TestVerdict(t *testing.T) {
	snapshots := func(stamps ...snapshot.Stamp) (list []snapshot.Snapshot) {
		yes := true
		for _, s := range stamps {
			list = append(list, snapshot.Snapshot{Stamp: s, Kind: snapshot.Daily, Valid: &yes})
		}
		return list
	}
	target := func(name string, stamps ...snapshot.Stamp) Target { return Target{Name: name, Stamps: stamps} }
	const today, sunday, lastYear = "20260407T040000Z", "20260405T030000Z", "20251231T223000Z"
	status := func(problems ...health.Leg) (s health.Status) {
		s.Level = health.LevelOK
		for _, l := range problems {
			s.Level = health.Worse(s.Level, l.Level)
			s.Legs = append(s.Legs, l)
		}
		return s
	}
	stale := health.Leg{Name: "snapshot", Level: health.LevelCritical,
		Headline: "No snapshot has been taken since Sunday.", Message: "no space", Hint: "atobackupd backup"}
	none := health.Leg{Name: "snapshot", Level: health.LevelWarning, Headline: "There is nothing to restore to yet.",
		Message: "it has not run yet", Hint: "atobackupd backup"}
	for _, c := range []struct {
		name  string
		state State
		want  string
	}{
		{"good", State{Status: status(), Snapshots: snapshots(sunday, today),
			Targets: []Target{target("laptop", sunday)}},
			"ok\nYou can restore to 06:00 today from here, and to Sunday 05:00 from laptop.\n\n\n\n"},
		{"only here", State{Status: status(), Snapshots: snapshots(today)},
			"ok\nYou can restore to 06:00 today from here.\n\n\n\n"},
		{"the same in several places",
			State{Status: status(), Snapshots: snapshots(today),
				Targets: []Target{target("laptop", sunday), target("disk", sunday, today), target("attic", sunday)}},
			"ok\nYou can restore to 06:00 today from here and disk, and to Sunday 05:00 from laptop and attic.\n\n\n\n"},
		{"only off-site, long ago",
			State{Status: status(), Targets: []Target{target("laptop", lastYear), target("new")}},
			"ok\nYou can restore to 31 December 2025, 23:30 from laptop.\n\n\n\n"},
		{"a target whose vault is gone",
			State{Status: status(health.Leg{Name: "offsite:laptop", Level: health.LevelCritical, Away: true,
				Headline: "The last attempt failed.", Message: "another vault"}), Snapshots: snapshots(today),
				Targets: []Target{{Name: "laptop", Away: true}, target("disk", sunday)}},
			"critical\nThe last attempt failed.\nanother vault\n\n" +
				"You can still restore to 06:00 today from here, and to Sunday 05:00 from disk.\n"},
		{"vectors are older", State{Status: status(), Snapshots: snapshots(sunday, today),
			Takes: []Take{{Stamp: sunday, Full: true}}},
			"ok\nYou can restore to 06:00 today from here.\n\n\n\nWith the vector store: to Sunday 05:00 from here."},
		{"a snapshot of the future counts for nothing",
			State{Status: status(), Snapshots: snapshots(today, "20270101T000000Z")},
			"ok\nYou can restore to 06:00 today from here.\n\n\n\n"},
		{"nothing yet", State{Status: status(none),
			Next: []Upcoming{{"scrub", at(2026, 4, 7, 9)}, {"weekly", at(2026, 4, 12, 3)},
				{"daily", at(2026, 4, 8, 4)}}},
			"warning\nThere is nothing to restore to yet.\nit has not run yet\nsudo atobackupd backup\nThe first " +
				"snapshot is due 06:00 tomorrow.\n"},
		{"nothing, ever", State{Status: status(none)}, "warning\nThere is nothing to restore to yet.\nit has not run " +
			"yet\nsudo atobackupd backup\nNo snapshots are scheduled.\n"},
		{"stale", State{Status: status(stale), Snapshots: snapshots(sunday)},
			"critical\nNo snapshot has been taken since Sunday.\nno space\nsudo atobackupd backup\nYou can still " +
				"restore to Sunday 05:00 from here.\n"},
		{"all of the future", State{Status: status(stale), Snapshots: snapshots("20270101T000000Z"), Takes: []Take{{}}},
			"critical\nNo snapshot has been taken since Sunday.\nno space\nsudo atobackupd backup\nYou can " +
				"restore only by name, to 20270101T000000Z from here, which is dated in the future.\n"},
		{"and nothing is left", State{Status: status(stale), Takes: []Take{{}}},
			"critical\nNo snapshot has been taken since Sunday.\nno space\nsudo atobackupd backup\nYou cannot " +
				"restore: no valid snapshot is known, here or off-site.\n"},
		{"a condition comes first, then the gravest leg",
			State{Snapshots: snapshots(today), Status: health.Status{Report: health.Report{
				Level: health.LevelCritical, Conditions: []health.Condition{{Name: "restore_pending",
					Level: health.LevelCritical, Headline: "A restore waits.", Message: "pending",
					Hint: "finish it with `atobackupd restore --resume`"}},
				Legs: []health.Leg{{Name: "drill", Level: health.LevelWarning, Headline: "No drill.",
					Message: "overdue",
					Hint:    "atobackupd drill"}, {Name: "scrub", Level: health.LevelOK}, stale},
			}}}, "critical\nA restore waits.\npending\nsudo atobackupd restore --resume\nYou can still restore to " +
				"06:00 today from here.\n" +
				"\nalso critical: No snapshot has been taken since Sunday. | no space | sudo atobackupd backup\nalso " +
				"warning: No drill. | overdue | sudo atobackupd drill"},
	} {
		c.state.Now, c.state.Location = sceneNow, berlin(t)
		if got := strings.TrimSpace(shown(newVerdict(&c.state))); got != strings.TrimSpace(c.want) {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
}

func TestTimesInWords(t *testing.T) {
	c := clock{time.Date(2026, 3, 29, 12, 0, 0, 0, berlin(t)), berlin(t)} // the clock sprang forward this night
	for at, want := range map[string]string{
		"2026-03-29T00:30:00Z": "01:30 today",
		"2026-03-29T01:30:00Z": "03:30 today",
		"2026-03-28T23:30:00Z": "00:30 today",
		"2026-03-28T22:30:00Z": "23:30 yesterday",
		"2026-03-29T22:30:00Z": "00:30 tomorrow",
		"2026-03-23T05:00:00Z": "Monday 06:00",
		"2026-03-22T05:00:00Z": "22 March, 06:00",
		"2026-04-04T05:00:00Z": "Saturday 07:00",
		"2026-04-05T05:00:00Z": "5 April, 07:00",
		"2025-12-31T23:30:00Z": "1 January, 00:30",
		"2025-12-31T22:30:00Z": "31 December 2025, 23:30",
	} {
		parsed, err := time.Parse(time.RFC3339, at)
		must(t, err)
		if got := c.words(parsed); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
	if got := c.zoneName(); got != "Europe/Berlin (CEST)" {
		t.Errorf("the zone: %q", got)
	}
	if got := (clock{sceneNow, time.UTC}).zoneName(); got != "UTC" {
		t.Errorf("the zone: %q", got)
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 300 * time.Millisecond: "0.3 s", 4 * time.Second: "4 s", 59 * time.Second: "59 s",
		2*time.Minute + 50*time.Second: "2 min",
		119 * time.Minute:              "119 min", 26 * time.Hour: "26 h", 47*time.Hour + 59*time.Minute: "47 h",
		8 * 24 * time.Hour: "8 days", -time.Second: "not yet",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestCommandsSurviveAShell quotes what a shell would take apart.
func TestCommandsSurviveAShell(t *testing.T) {
	c := Commands{ConfigPath: "/etc/my config.toml"}
	const want = `sudo atobackupd --config '/etc/my config.toml' sync --target 'it'\''s $HOME; rm -rf /'`
	if got := c.command("sync", "--target", "it's $HOME; rm -rf /"); got != want {
		t.Error(got)
	}
	if got := escape.ShellWord(""); got != "''" {
		t.Error(got)
	}
	managed := Commands{ManageService: true}.restoreHere("20260407T040000Z")
	if len(managed) != 2 || managed[1].Command != "sudo atobackupd restore 20260407T040000Z --manage-service" {
		t.Errorf("%+v", managed)
	}
	byHand := Commands{StopService: "docker compose down", StartService: "docker compose up -d"}.restoreFrom("laptop",
		"20260407T040000Z")
	if len(byHand) != 4 || byHand[1].Command != "docker compose down" ||
		!strings.Contains(byHand[2].Command, "--from laptop --identity ") ||
		!strings.Contains(byHand[2].Command, "--confirm-service-stopped") {
		t.Errorf("%+v", byHand)
	}
}
