package web

import (
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/history"
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
	stale := Leg{Name: "snapshot", Level: LevelCritical, LastSuccess: at(2026, 4, 5, 4), Limit: 26 * time.Hour, Message: "no space"}
	for _, c := range []struct {
		name  string
		state State
		want  string
	}{
		{"good", State{Level: LevelOK, Snapshots: snapshots(sunday, today), Targets: []Target{target("laptop", sunday)}},
			"ok\nYou can restore to 06:00 today from here, and to Sunday 05:00 from laptop.\n\n\n\n"},
		{"only here", State{Level: LevelOK, Snapshots: snapshots(today)}, "ok\nYou can restore to 06:00 today from here.\n\n\n\n"},
		{"the same in several places", State{Level: LevelOK, Snapshots: snapshots(today), Targets: []Target{target("laptop", sunday), target("disk", sunday, today), target("attic", sunday)}},
			"ok\nYou can restore to 06:00 today from here and disk, and to Sunday 05:00 from laptop and attic.\n\n\n\n"},
		{"only off-site, long ago", State{Level: LevelOK, Targets: []Target{target("laptop", lastYear), target("new")}},
			"ok\nYou can restore to 31 December 2025, 23:30 from laptop.\n\n\n\n"},
		{"vectors are older", State{Level: LevelOK, Snapshots: snapshots(sunday, today), Takes: []Take{{Stamp: sunday, Full: true}}},
			"ok\nYou can restore to 06:00 today from here.\n\n\n\nWith the vector store: to Sunday 05:00 from here."},
		{"a snapshot of the future counts for nothing", State{Level: LevelOK, Snapshots: snapshots(today, "20270101T000000Z")},
			"ok\nYou can restore to 06:00 today from here.\n\n\n\n"},
		{"nothing yet", State{Level: LevelOK, Next: []Upcoming{{"scrub", at(2026, 4, 7, 9)}, {"weekly", at(2026, 4, 12, 3)}, {"daily", at(2026, 4, 8, 4)}}},
			"warning\nThere is nothing to restore to yet.\n\nsudo atobackupd backup\nThe first snapshot is due 06:00 tomorrow.\n"},
		{"nothing, ever", State{Level: LevelOK}, "warning\nThere is nothing to restore to yet.\n\nsudo atobackupd backup\nNo snapshots are scheduled.\n"},
		{"stale", State{Level: LevelCritical, Legs: []Leg{stale}, Snapshots: snapshots(sunday)},
			"critical\nNo snapshot has been taken since Sunday 06:00.\nno space\nsudo atobackupd backup\nYou can still restore to Sunday 05:00 from here.\n"},
		{"and nothing is left", State{Level: LevelCritical, Legs: []Leg{stale}},
			"critical\nNo snapshot has been taken since Sunday 06:00.\nno space\nsudo atobackupd backup\nYou cannot restore: no valid snapshot is known, here or off-site.\n"},
		{"the gravest comes first, an alarm of a leg once", State{
			Level: LevelCritical, Snapshots: snapshots(today), Legs: []Leg{{Name: "drill", Level: LevelWarning, Message: "overdue"}, {Name: "offsite:my laptop", Level: LevelCritical, Message: "the host key has changed", LastSuccess: sceneNow, Limit: time.Hour}},
			Alarms: []history.Alarm{{Leg: "drill", Level: LevelWarning, Message: "overdue"}, {Leg: "config", Level: LevelCritical, Message: "line 3"}, {Leg: "full", Level: LevelCritical, ResolvedAt: sceneNow}},
		}, "critical\nThe last attempt to reach my laptop failed.\nthe host key has changed\nsudo atobackupd sync --target 'my laptop'\nYou can still restore to 06:00 today from here.\n" +
			"\nalso critical: Configuration needs you. | line 3 | sudo atobackupd config check\nalso warning: No restore was ever rehearsed. | overdue | sudo atobackupd drill"},
		{"an interrupted restore", State{Level: LevelOK, Pending: "restore pending: x", Snapshots: snapshots(today)},
			"critical\nA restore was interrupted and waits for you.\nrestore pending: x\nsudo atobackupd restore --resume\nYou can still restore to 06:00 today from here.\n"},
	} {
		c.state.Now, c.state.Location = sceneNow, berlin(t)
		if got := strings.TrimSpace(shown(newVerdict(&c.state))); got != strings.TrimSpace(c.want) {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
}

// TestEveryLegIsNamedPlainly in each way in which it can be bad.
func TestEveryLegIsNamedPlainly(t *testing.T) {
	c := clock{sceneNow, time.UTC}
	for _, name := range []string{"snapshot", "full", "prune", "scrub", "drill", "offsite:laptop", "something:new"} {
		said := map[string]bool{}
		for _, leg := range []Leg{
			{Name: name}, {Name: name, LastSuccess: sceneNow.Add(-time.Hour), Limit: time.Minute}, {Name: name, LastSuccess: sceneNow, Limit: time.Hour},
		} {
			text := plainly(leg, c)
			if !strings.HasSuffix(text, ".") || strings.ToUpper(text[:1]) != text[:1] {
				t.Errorf("%s: %q is no sentence", name, text)
			}
			said[text] = true
		}
		if len(said) != 3 && name != "something:new" {
			t.Errorf("%s: never, stale and failed are not told apart: %v", name, said)
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
		0: "0 s", 300 * time.Millisecond: "0.3 s", 4 * time.Second: "4 s", 59 * time.Second: "59 s", 2*time.Minute + 50*time.Second: "2 min",
		119 * time.Minute: "119 min", 26 * time.Hour: "26 h", 47*time.Hour + 59*time.Minute: "47 h", 8 * 24 * time.Hour: "8 days", -time.Second: "not yet",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestCommandsSurviveAShell quotes what a shell would take apart.
func TestCommandsSurviveAShell(t *testing.T) {
	c := Commands{ConfigPath: "/etc/my config.toml"}
	if got := c.command("sync", "--target", "it's $HOME; rm -rf /"); got != `sudo atobackupd --config '/etc/my config.toml' sync --target 'it'\''s $HOME; rm -rf /'` {
		t.Error(got)
	}
	if got := quote(""); got != "''" {
		t.Error(got)
	}
	managed := Commands{ManageService: true}.restoreHere("20260407T040000Z")
	if len(managed) != 2 || managed[1].Command != "sudo atobackupd restore 20260407T040000Z --manage-service" {
		t.Errorf("%+v", managed)
	}
	byHand := Commands{StopService: "docker compose down", StartService: "docker compose up -d"}.restoreFrom("laptop", "20260407T040000Z")
	if len(byHand) != 4 || byHand[1].Command != "docker compose down" || !strings.Contains(byHand[2].Command, "--from laptop --identity ") || !strings.Contains(byHand[2].Command, "--confirm-service-stopped") {
		t.Errorf("%+v", byHand)
	}
}
