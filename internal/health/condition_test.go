package health

import (
	"fmt"
	"maps"
	"slices"
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
		{"history cannot be read", Facts{History: History{ReadError: "not a database", Hint: "mv"}}, "history critical",
			"cannot be read: not a database"},
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

// A clock that was put back must hide nothing: what lies far in the future is as
// suspicious as what lies far in the past.
func TestTimesOfTheFutureHideNothing(t *testing.T) {
	ahead := ago(-30 * day)
	for name, facts := range map[string]Facts{
		"daemon": {Daemon: Daemon{Scheduled: true, State: DaemonStopped, Since: ahead}},
	} {
		if r := Judge(facts, noon); len(r.Conditions) != 1 || r.Conditions[0].Name != name {
			t.Errorf("%s: %+v", name, r.Conditions)
		}
	}
	if r := Judge(Facts{Daemon: Daemon{Scheduled: true, State: DaemonHung, Since: ahead}},
		noon); r.Level != LevelCritical {
		t.Errorf("a daemon that hangs: %+v", r)
	}
}

// The legs about snapshots say what to do first: where the disk is away, every take
// would be refused.
func TestTheDiskComesFirst(t *testing.T) {
	legs := []LegFacts{
		{Name: LegSnapshot, Limit: day, Holds: true, Late: LevelCritical, Hint: "atobackupd backup",
			LastSuccess: ago(hour)},
		{Name: LegDrill, Limit: day, Late: LevelWarning, Hint: "atobackupd drill", LastSuccess: ago(2 * day)},
	}
	hint := "mount its disk: `mount -a`; if this is a new directory: atobackupd accept backup-dir"
	for _, test := range []struct {
		mount *Trouble
		want  map[string]string // commands, by name
	}{
		{nil, map[string]string{LegSnapshot: "atobackupd backup", LegDrill: "atobackupd drill"}},
		{&Trouble{Message: "away", Hint: hint},
			map[string]string{LegSnapshot: "mount -a", LegDrill: "atobackupd drill", ConditionMount: "mount -a"}},
	} {
		got := make(map[string]string)
		for _, p := range Judge(Facts{Legs: legs, Mount: test.mount}, noon).Problems() {
			got[p.Name] = p.Command()
		}
		if !maps.Equal(got, test.want) {
			t.Errorf("%v, want %v", got, test.want)
		}
	}
}

// Every condition can be raised by its fact alone, has its headline, and is gone
// with it.
func TestEveryConditionComesAndGoes(t *testing.T) {
	trouble := &Trouble{Message: "what", Hint: "atobackupd do", Since: ago(hour)}
	raise := map[string]func(f *Facts){
		ConditionRestorePending: func(f *Facts) { f.RestorePending = trouble },
		ConditionDamaged:        func(f *Facts) { f.Damage = []Damage{{Subject: "s", What: "w", Since: ago(hour)}} },
		ConditionSourceShrunk:   func(f *Facts) { f.Shrunk = []Shrunk{{Stamp: "s", What: []string{"db_shrunk"}}} },
		ConditionUnverified:     func(f *Facts) { f.Unverified = trouble },
		ConditionSpace:          func(f *Facts) { f.Space = &Space{Free: 1, Next: 2} },
		ConditionHistory:        func(f *Facts) { f.History.WriteError = "full" },
		ConditionConfig:         func(f *Facts) { f.Config = trouble },
		ConditionNotify:         func(f *Facts) { f.Notify = []Trouble{*trouble} },
		ConditionDaemon:         func(f *Facts) { f.Daemon.Crash = trouble },
		ConditionLock:           func(f *Facts) { f.Lock = &LockFacts{Holder: "pid 1", Since: ago(day)} },
		ConditionClock:          func(f *Facts) { f.Clocks = []string{"x"} },
		ConditionRecipients:     func(f *Facts) { f.Recipients = trouble },
		ConditionShared:         func(f *Facts) { f.Shared = trouble },
		ConditionMount:          func(f *Facts) { f.Mount = trouble },
	}
	var all Facts
	for _, name := range Conditions {
		one := Facts{}
		raise[name](&one)
		raise[name](&all)
		r := Judge(one, noon)
		if len(r.Conditions) != 1 || r.Conditions[0].Name != name || r.Conditions[0].Headline == "" {
			t.Errorf("%s: %+v", name, r.Conditions)
			continue
		}
		alarms, changes := Alarms{}.Update(r, noon)
		if len(changes.Fresh) != 1 || changes.Fresh[0].Leg != name {
			t.Errorf("%s raises no alarm: %+v", name, changes)
		}
		alarms = alarms.MarkSent(alarms.Pending(noon), noon)
		alarms, changes = alarms.Update(Judge(Facts{}, noon.Add(time.Minute)), noon.Add(time.Minute))
		if len(changes.Resolved) != 1 {
			t.Errorf("%s is not over: %+v", name, changes)
		}
		if _, body := alarms.Pending(noon.Add(time.Minute)).Message("h"); strings.Count(body, "RECOVERED "+name) != 1 {
			t.Errorf("%s: people are told %q", name, body)
		}
	}
	var names []string
	for _, c := range Judge(all, noon).Conditions {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, Conditions) {
		t.Errorf("the order is %q, want %q", names, Conditions)
	}
}

// Long lists are cut, and the oldest says since when.
func TestManyOfAKind(t *testing.T) {
	var damage []Damage
	for i := range 5 {
		damage = append(damage, Damage{Subject: fmt.Sprint("s", i), What: "w", Since: ago(time.Duration(i) * hour)})
	}
	r := Judge(Facts{Damage: damage}, noon)
	c := r.Conditions[0]
	if c.Headline != "5 stored copies are damaged." ||
		!strings.Contains(c.Message, "s0 (w); s1 (w); s2 (w); and 2 more") ||
		c.Since == nil || !c.Since.Equal(ago(4*hour)) {
		t.Errorf("%+v", c)
	}
}

// What a condition is called where no word is known for it.
func TestTitles(t *testing.T) {
	for name, want := range map[string]string{
		"job:scrub": "Job scrub needs you.", "http": "The address of the dashboard needs you.",
		"state_dir": "state_dir needs you.",
	} {
		r := Judge(Facts{Others: []Other{{Name: name, Trouble: Trouble{Message: "m"}}}}, noon)
		if r.Conditions[0].Headline != want {
			t.Errorf("%s: %q, want %q", name, r.Conditions[0].Headline, want)
		}
	}
}
