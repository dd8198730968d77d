package health

import (
	"strings"
	"testing"
	"time"
)

// Each condition, when it holds and when it does not.
func TestConditions(t *testing.T) {
	days := func(n int) *int { return &n }
	trouble := &Trouble{Message: "what", Hint: "atobackupd do", Since: ago(hour)}
	for _, test := range []struct {
		name  string
		facts Facts
		want  string // "name level", "" for none
		text  string // part of the message
	}{
		{"nothing", Facts{}, "", ""},
		{"a restore journal", Facts{RestorePending: trouble}, "restore_pending critical", "what"},
		{"damage", Facts{Damage: []Damage{{Subject: "20260407T060000Z", What: "checksum_mismatch",
			Hint: "atobackupd scrub --repair", Since: ago(day)}}}, "damaged critical",
			"20260407T060000Z (checksum_mismatch)"},
		{"a source that shrank", Facts{Shrunk: []Shrunk{{Stamp: "20260407T060000Z", What: []string{"db_shrunk"}}}},
			"source_shrunk critical", "db_shrunk"},
		{"an unproven vector store", Facts{Unverified: trouble}, "unverified warning", "what"},
		{"room enough", Facts{Space: &Space{Free: 100 << 30, Keep: 1 << 30, Next: 10 << 30, FullInDays: days(15)}}, "",
			""},
		{"full in two weeks", Facts{Space: &Space{Free: 100 << 30, Keep: 1 << 30, Next: 10 << 30,
			FullInDays: days(14)}}, "space warning", "within 14 days"},
		{"full in three days", Facts{Space: &Space{Free: 100 << 30, Keep: 1 << 30, Next: 10 << 30,
			FullInDays: days(3)}}, "space critical", "within 3 days"},
		{"the next one just fits", Facts{Space: &Space{Free: 11 << 30, Keep: 1 << 30, Next: 10 << 30}}, "", ""},
		{"the next one does not fit", Facts{Space: &Space{Free: 11<<30 - 1, Keep: 1 << 30, Next: 10 << 30}},
			"space critical", "10240 MiB"},
		{"history cannot be written", Facts{History: History{WriteError: "disk full"}}, "history critical",
			"disk full"},
		{"history is gone", Facts{History: History{Missing: true}}, "history critical", "gone"},
		{"history was started over", Facts{History: History{StartedOver: ago(hour)}}, "history critical",
			"started over at 2026-04-07 11:00 UTC"},
		{"and a scrub has passed", Facts{History: History{StartedOver: ago(hour), ScrubPassed: true}}, "", ""},
		{"a refused configuration", Facts{Config: trouble}, "config critical", "what"},
		{"an address that is dead", Facts{Notify: []Trouble{*trouble}}, "notify warning", "what"},
		{"the daemon runs", Facts{Daemon: Daemon{Scheduled: true, State: DaemonRunning, Since: ago(day)}}, "", ""},
		{"the daemon was never started", Facts{Daemon: Daemon{Scheduled: true, State: DaemonNever}}, "daemon warning",
			"never started"},
		{"nothing is scheduled", Facts{Daemon: Daemon{State: DaemonNever}}, "", ""},
		{"the daemon stopped just now", Facts{Daemon: Daemon{Scheduled: true, State: DaemonStopped,
			Since: ago(5 * time.Minute)}}, "", ""},
		{"the daemon stopped", Facts{Daemon: Daemon{Scheduled: true, State: DaemonStopped,
			Since: ago(5*time.Minute + 1)}}, "daemon warning", "not running"},
		{"the daemon hangs", Facts{Daemon: Daemon{Scheduled: true, State: DaemonHung, Since: ago(6 * time.Minute)}},
			"daemon critical", "last heard of"},
		{"a crash", Facts{Daemon: Daemon{Scheduled: true, State: DaemonRunning, Crash: trouble}},
			"daemon critical", "what"},
		{"two daemons", Facts{Daemon: Daemon{Scheduled: true, State: DaemonRunning, Second: trouble}},
			"daemon critical", "what"},
		{"a lock for an hour", Facts{Lock: &LockFacts{Holder: "pid 1 (pruning)", Since: ago(hour)}}, "", ""},
		{"a lock for longer", Facts{Lock: &LockFacts{Holder: "pid 1 (pruning)", Since: ago(hour + 1)}}, "lock warning",
			"pid 1 (pruning)"},
		{"dated in the future", Facts{Clocks: []string{"snapshot 20400101T000000Z"}}, "clock warning",
			"20400101T000000Z"},
		{"nobody to seal to", Facts{Recipients: trouble}, "recipients critical", "what"},
		{"others can write", Facts{Shared: trouble}, "shared critical", "what"},
		{"not mounted", Facts{Mount: trouble}, "mount critical", "what"},
		{"a job that hangs", Facts{Others: []Other{{Name: "job:daily", Trouble: *trouble}}},
			"job:daily critical", "what"},
	} {
		r := Judge(test.facts, noon)
		got := ""
		for _, c := range r.Conditions {
			got = strings.TrimSpace(got + " " + c.Name + " " + c.Level)
			if !strings.Contains(c.Message, test.text) || c.Headline == "" {
				t.Errorf("%s: %+v", test.name, c)
			}
			if r.Level != c.Level {
				t.Errorf("%s: the report is %s", test.name, r.Level)
			}
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
