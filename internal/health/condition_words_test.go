package health

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is said of each condition: the headline for somebody who does not know
// conditions, what was found, what to run, and since when.
func TestWordsOfConditions(t *testing.T) {
	found := &Trouble{Message: "what was found", Hint: "atobackupd mend", Since: ago(hour)}
	three := 3
	for _, test := range []struct {
		facts                   Facts
		headline, message, hint string
		since                   time.Duration // ago; 0 where it is not known
	}{
		{Facts{RestorePending: found}, "A restore was interrupted and waits for you.", "what was found",
			"atobackupd mend", hour},
		{Facts{Damage: []Damage{{"20260407T060000Z", "missing_file", false, "atobackupd scrub --repair", ago(day)}}},
			"A stored copy is damaged.", "damaged or missing: 20260407T060000Z (missing_file)",
			"atobackupd scrub --repair", day},
		{Facts{Damage: []Damage{{"a", "x", false, "first", ago(hour)}, {"b", "y", false, "second", ago(day)},
			{"c", "z", false, "", noon}, {"d", "z", false, "", noon}, {"e", "z", false, "", time.Time{}}}},
			"5 stored copies are damaged.", "damaged or missing: a (x); b (y); c (z); and 2 more", "first", day},
		{Facts{Damage: []Damage{{"a", "it is gone", true, "find out who", time.Time{}}}}, "A stored copy is gone.",
			"damaged or missing: a (it is gone)", "find out who", 0},
		{Facts{Damage: []Damage{{"a", "x", false, "first", ago(day)},
			{"b", "it is gone", true, "second", time.Time{}}}},
			"2 stored copies are damaged or gone.", "damaged or missing: a (x); b (it is gone)", "first", day},
		{Facts{Shrunk: []Shrunk{{"20260406T060000Z", []string{"db_shrunk"}, ago(day)},
			{"20260407T060000Z", []string{"memories: 812 -> 3", "registry_shrunk"}, ago(hour)}}},
			"What is backed up has lost much of its content.",
			"snapshot 20260407T060000Z: memories: 812 -> 3; registry_shrunk: retention deletes nothing older meanwhile",
			"if it was meant: atobackupd accept 20260407T060000Z; if not: see `atobackupd list` for one to restore",
			day},
		{Facts{Unverified: found}, "Nobody can say whether the saved vector store is whole.", "what was found",
			"atobackupd mend", hour},
		{Facts{Space: &Space{FullInDays: &three, Hint: "atobackupd mend"}}, "The disk of the backups is filling up.",
			"it is full within 3 days as it grows now", "atobackupd mend", 0},
		{Facts{Space: &Space{Free: 2 << 30, Keep: 1 << 30, Next: 3 << 30, FullInDays: &three, Hint: "atobackupd mend"}},
			"There is no room for the next snapshot.",
			"2048 MiB are free; the next snapshot may need 3072 MiB, and 1024 MiB must stay free (min_free)",
			"atobackupd mend", 0},
		{Facts{History: History{WriteError: "disk full", Missing: true}}, "What happens is not remembered.",
			"it cannot be written: disk full", "make room in state_dir, and let the service's user write there", 0},
		{Facts{History: History{Missing: true, StartedOver: ago(hour)}}, "What happens is not remembered.",
			"history.db is gone or empty, although there are snapshots of ours",
			"systemctl restart atobackupd, and then: atobackupd scrub --all", hour},
		{Facts{History: History{StartedOver: ago(hour)}}, "What was known of the backups was lost.",
			"history.db was started over at 2026-04-07 11:00 UTC: " +
				"what was found before is forgotten until a scrub has passed", "atobackupd scrub --all", hour},
		{Facts{History: History{StartedOver: ago(hour), TookForeign: true}}, "What was remembered is about other backups.",
			"history.db was started over at 2026-04-07 11:00 UTC: the one that lay there is that of another backup " +
				"directory (it is kept beside it); nothing is known of this one until a scrub has passed",
			"atobackupd scrub --all", hour},
		{Facts{History: History{Foreign: true, Missing: true}}, "What is remembered is about other backups.",
			"history.db is that of another backup directory, and proves nothing about this one",
			"systemctl restart atobackupd, and then: atobackupd scrub --all", 0},
		{Facts{Config: found}, "The new configuration is refused.", "what was found", "atobackupd mend", hour},
		{Facts{Notify: []Trouble{*found, {Message: "mail", Since: ago(day)}}}, "Somebody could not be told.",
			"what was found; mail", "correct [notify], and try it: atobackupd notify test", day},
		{Facts{Daemon: Daemon{State: DaemonHung, Since: ago(hour)}}, "The daemon hangs.",
			"it was last heard of at 2026-04-07 11:00 UTC", "systemctl restart atobackupd", hour},
		{Facts{Daemon: Daemon{State: DaemonStopped, Crash: found}}, "The daemon ended by itself.", "what was found",
			"atobackupd mend", hour},
		{Facts{Daemon: Daemon{State: DaemonHung, Since: ago(day), Crash: found, Second: found}},
			"A second daemon was started, and refused.", "what was found", "atobackupd mend", hour},
		{Facts{Daemon: Daemon{Scheduled: true, State: DaemonStopped, Since: ago(hour)}}, "Nobody keeps the schedule.",
			"the daemon is not running; it was last heard of at 2026-04-07 11:00 UTC", "systemctl start atobackupd",
			hour},
		{Facts{Daemon: Daemon{Scheduled: true, State: DaemonNever}}, "Nobody keeps the schedule.",
			"the daemon was never started", "systemctl enable --now atobackupd", 0},
		{Facts{Lock: &LockFacts{"pid 7 (pruning)", ago(2 * hour), "atobackupd mend"}},
			"Something has held the lock for more than an hour.",
			"it is held by pid 7 (pruning) since 2026-04-07 10:00 UTC",
			"atobackupd mend", 2 * hour},
		{Facts{Clocks: []string{"the last scrub, 2031-01-01 00:00 UTC"}}, "The clock is wrong, or was.",
			"dated in the future: the last scrub, 2031-01-01 00:00 UTC", "timedatectl", 0},
		{Facts{Recipients: found}, "Nothing can be sealed, so nothing is sent off-site.", "what was found",
			"atobackupd mend", hour},
		{Facts{Shared: found}, "Somebody else can write where the backups lie.", "what was found", "atobackupd mend",
			hour},
		{Facts{Mount: found}, "The disk of the backups is not mounted.", "what was found", "atobackupd mend", hour},
		{Facts{Others: []Other{{"job:daily", *found}}}, "Job daily needs you.", "what was found", "atobackupd mend",
			hour},
		{Facts{Others: []Other{{"http", *found}}}, "The address of the dashboard needs you.", "what was found",
			"atobackupd mend", hour},
	} {
		list := Judge(test.facts, noon).Conditions
		if len(list) != 1 {
			t.Errorf("%s: %d conditions: %+v", test.headline, len(list), list)
			continue
		}
		c := list[0]
		if c.Headline != test.headline || c.Message != test.message || c.Hint != test.hint {
			t.Errorf("got  %q, %q, %q\nwant %q, %q, %q", c.Headline, c.Message, c.Hint, test.headline, test.message,
				test.hint)
		}
		switch {
		case test.since == 0 && c.Since != nil, test.since != 0 && (c.Since == nil || !c.Since.Equal(ago(test.since))):
			t.Errorf("%s: since %v, want %v ago", test.headline, c.Since, test.since)
		}
		if got := recovered(Judge(test.facts, noon)); got != test.message {
			t.Errorf("%s: when it is over: %q, want %q", test.headline, got, test.message)
		}
	}
}

// recovered returns what people are told that it was when all of a report is over.
func recovered(r Report) string {
	l, _ := Alarms{}.Update(r, noon)
	l, _ = l.MarkSent(l.Pending(noon), noon).Update(Report{}, noon.Add(hour))
	_, body := l.Pending(noon.Add(hour)).Message("dalidou")
	_, was, _ := strings.Cut(body, "; it was: ")
	was, _, _ = strings.Cut(was, "\n")
	return was
}

// What is over has no next step, however its hint reads, and whether the message of the
// failure ends with it or not.
func TestRecoveredHasNoHint(t *testing.T) {
	for _, hint := range []string{
		"atobackupd scrub --all",
		"bring it back: atobackupd scrub --repair S --from disk --identity FILE --confirm; if it was meant to go: " +
			"atobackupd accept S",
		"mount its disk: `mount -a`; if this is a new directory: atobackupd accept backup-dir",
		"find out who removed it",
		"make room in state_dir, and let the service's user write there",
		"if nobody has changed it: chown -R --reference=/b /b/snapshots/S, and then: atobackupd validate S",
		"correct [notify], and try it: atobackupd notify test",
		"it is made anew by: atobackupd vault init --target disk; and then: atobackupd vault verify --target disk",
		"compare `atobackupd list` with what should be there, and then: atobackupd accept backup-dir",
		"du -xhd1 /srv/storage",
	} {
		for _, message := range []string{"it is gone; disk has it: really", "backup.dir: /b: it is gone: " + hint} {
			want := strings.TrimSuffix(message, ": "+hint)
			for name, facts := range map[string]Facts{
				"mount":   {Mount: &Trouble{Message: message, Hint: hint}},
				"http":    {Others: []Other{{"http", Trouble{Message: message, Hint: hint}}}},
				"history": {History: History{ReadError: message, Hint: hint}},
				"damaged": {Damage: []Damage{{Subject: "S", What: message, Hint: hint}}},
			} {
				got := recovered(Judge(facts, noon))
				if !strings.Contains(got, want) || strings.Contains(got, hint) {
					t.Errorf("%s, %q: %q", name, hint, got)
				}
			}
		}
	}
}

// Conditions are listed in one order, whatever else holds; what is wrong is listed
// the gravest first, conditions before legs.
func TestOrder(t *testing.T) {
	found := &Trouble{Message: "x"}
	one := 1
	all := Facts{RestorePending: found, Damage: []Damage{{}}, Shrunk: []Shrunk{{}}, Unverified: found,
		Space: &Space{FullInDays: &one}, History: History{Missing: true}, Config: found, Notify: []Trouble{{}},
		Daemon: Daemon{Second: found}, Lock: &LockFacts{}, Clocks: []string{"x"}, Recipients: found, Shared: found,
		Mount: found, Legs: []LegFacts{{Name: LegScrub, Err: fmt.Errorf("x")}, {Name: LegDrill, Limit: day}}}
	r := Judge(all, noon)
	var names []string
	for _, c := range r.Conditions {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, Conditions) {
		t.Errorf("listed as %q, want %q", names, Conditions)
	}
	names = nil
	for _, p := range r.Problems() {
		names = append(names, p.Name)
	}
	want := []string{"restore_pending", "damaged", "source_shrunk", "space", "history", "config", "daemon",
		"recipients", "shared", "mount", "scrub", "unverified", "notify", "lock", "clock", "drill"}
	if !slices.Equal(names, want) {
		t.Errorf("the problems are %q, want %q", names, want)
	}
	if leg, ok := r.Leg(LegDrill); !ok || leg.Name != LegDrill {
		t.Errorf("the leg of a name: %+v, %v", leg, ok)
	}
	if _, ok := r.Leg("mount"); ok {
		t.Error("a condition is taken for a leg")
	}
}
