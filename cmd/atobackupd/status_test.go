package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/atocore/atobackupd/internal/health"
)

// What runs says how far it is, an alarm whose cause is gone says so, and no line is
// wider than the terminal.
func TestPrintStatus(t *testing.T) {
	now := time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)
	begun := now.Add(-90 * time.Second)
	progress := health.Progress{Step: "laptop 20260407T060000Z", Done: 90 << 20, Total: 300 << 20, Since: begun, At: now}
	s := health.Status{
		Running: []health.RunningStatus{{Job: "sync:laptop", Since: begun, Progress: &progress},
			{Job: "backup", Kind: "daily", Since: now.Add(-3 * time.Hour)},
			{Job: "prune", Since: now.Add(time.Second)}, {Job: "scrub", Since: now.Add(time.Hour)}},
		Targets: []health.TargetStatus{{Name: "laptop", Away: true, Behind: 9, LastSeen: "20260406T060000Z"}},
		Alarms: []health.Alarm{{Leg: "scrub", Since: begun, Message: "scrub: one is bad"},
			{Leg: "full", Since: begun, Message: "too old"}, {Leg: "damaged", Since: begun, Message: "two are bad"}},
	}
	s.Legs = []health.Leg{{Name: "scrub", Level: health.LevelOK}, {Name: "full", Level: health.LevelCritical},
		{Name: "drill", Level: health.LevelOK, LastSuccess: new(now.Add(time.Hour))},
		{Name: "prune", Level: health.LevelOK, LastSuccess: new(now.Add(-3 * time.Hour))}}
	s.Conditions = []health.Condition{{Name: "damaged", Level: health.LevelCritical, Message: "two are bad"}}
	var out bytes.Buffer
	printStatus(&out, s, now, 80)
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"running: sync:laptop, for 90s: laptop 20260407T060000Z, 30 % at 1.0 MiB/s, 4 min left",
		"running: backup daily, for 3h", "running: prune, for 0s", "running: scrub, begun in the future",
		"drill off in the future prune off 3h ago",
		"scrub: it is over, and the daemon will say so at its next look",
		"full: too old", "damaged: two are bad",
		"its vault is not there, 9 behind; when it was last seen its newest was 20260406T060000Z",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
}
