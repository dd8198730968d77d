package app

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot"
)

// Which legs a configuration knows, whose slots count for them, and how old they
// may be.
func TestLegs(t *testing.T) {
	const (
		db      = "state_dir = \"/s\"\natocore.db_path = \"/db\"\nbackup.dir = \"/b\"\n"
		chroma  = "atocore.chroma_path = \"/chroma\"\n"
		offsite = "encryption.recipients = [\"age1a\"]\n[[offsite]]\nname = \"disk\"\ntype = \"dir\"\npath = \"/v\"\n"
	)
	for _, test := range []struct {
		name, text string
		want       []string // name, job, limit; "-" for a job that none has
		off        []string // legs that are not watched, and why
	}{
		{"the least that there is", db,
			[]string{"snapshot daily 26h", "prune daily 26h", "scrub scrub 216h", "drill drill 2400h",
				"live-drill - off"},
			[]string{`live-drill alarms.live_drill = "off"`}},
		{"with the vector store", db + chroma,
			[]string{"snapshot daily 26h", "full weekly 192h", "prune daily 26h", "scrub scrub 216h",
				"drill drill 2400h",
				"live-drill - off"}, nil},
		{"the monthly take alone saves the vector store", db + chroma + "schedule.weekly = \"\"\n",
			[]string{"full monthly 192h"}, nil},
		{"only a weekly take: the others may be as old", db + chroma + "schedule.daily = \"\"\n",
			[]string{"snapshot weekly 192h", "full weekly 192h", "prune weekly 192h"}, nil},
		{"only a weekly take, whose limit is off", db + chroma + "schedule.daily = \"\"\nalarms.full = \"off\"\n",
			[]string{"snapshot weekly 26h", "prune weekly 26h"}, []string{`full alarms.full = "off"`}},
		{"a limit is off although a longer one would do", db + chroma +
			"schedule.daily = \"\"\nalarms.snapshot = \"off\"\n",
			nil, []string{`snapshot alarms.snapshot = "off"`}},
		{"no schedule at all", db + "schedule.daily = \"\"\nschedule.scrub = \"\"\n",
			[]string{"snapshot daily 26h", "prune daily 26h", "scrub scrub 216h"}, nil},
		{"a target", db + offsite,
			[]string{"offsite:disk sync:disk 192h", "verify:disk verify 960h"}, nil},
		{"a target whose limits are off", db + "alarms.verify = \"off\"\n" + offsite + "max_age = \"off\"\n", nil,
			[]string{`offsite:disk offsite.disk.max_age = "off"`, `verify:disk alarms.verify = "off"`}},
		{"a service that can be stopped", db + "restore.stop_command = [\"a\"]\nrestore.start_command = [\"b\"]\n",
			[]string{"live-drill - 2400h"}, nil},
	} {
		c, err := config.Parse("x.toml", []byte(test.text))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		var got, off []string
		for _, l := range legs(c) {
			limit, job := "off", l.job
			if l.limit > 0 {
				limit = fmt.Sprintf("%dh", l.limit/time.Hour)
			}
			if job == "" {
				job = "-"
			}
			got = append(got, l.name+" "+job+" "+limit)
			if l.off != "" {
				off = append(off, l.name+" "+l.off)
			}
			if l.hint == "" || !strings.HasPrefix(l.hint, "atobackupd ") {
				t.Errorf("%s: %s has no command: %q", test.name, l.name, l.hint)
			}
		}
		for _, want := range test.want {
			if !slices.Contains(got, want) {
				t.Errorf("%s: %q lacks %q", test.name, got, want)
			}
		}
		for _, want := range test.off {
			if !slices.Contains(off, want) {
				t.Errorf("%s: off are %q, not %q", test.name, off, want)
			}
		}
		if !strings.Contains(test.text, "[[offsite]]") && strings.Contains(strings.Join(got, " "), "offsite:") {
			t.Errorf("%s: a leg of no target: %q", test.name, got)
		}
	}
}

// The newest snapshot that a target holds, by a leg's name.
func TestNewestAt(t *testing.T) {
	stamp := func(day int) snapshot.Stamp { return snapshot.StampOf(noon.AddDate(0, 0, day)) }
	holders := map[snapshot.Stamp][]string{
		stamp(-3): {"laptop", "disk"}, stamp(-1): {"disk"}, stamp(-2): {"laptop"}, stamp(5): {"laptop"},
	}
	for leg, want := range map[string]time.Time{
		"offsite:laptop": stamp(-2).Time(), // what lies in the future counts for nothing
		"offsite:disk":   stamp(-1).Time(),
		"offsite:none":   {},
		"snapshot":       {},
		"verify:disk":    {},
	} {
		if got := NewestAt(holders, leg, noon); !got.Equal(want) {
			t.Errorf("%s: %v, want %v", leg, got, want)
		}
	}
}

// A bounded scrub looks at the least recently checked first, and at one at least.
func TestWithin(t *testing.T) {
	list := []snapshot.Snapshot{{Bytes: 10}, {Bytes: 20}, {Bytes: 30}}
	for _, test := range []struct {
		most int64
		want int
	}{{0, 3}, {-1, 3}, {1, 1}, {10, 1}, {29, 1}, {30, 2}, {59, 2}, {60, 3}, {1000, 3}} {
		if got := within(list, test.most); len(got) != test.want {
			t.Errorf("within %d bytes: %d snapshots, want %d", test.most, len(got), test.want)
		}
	}
	if got := within(nil, 10); len(got) != 0 {
		t.Errorf("of none: %d", len(got))
	}
}

// Long lists of findings are cut, and say so.
func TestFirstFew(t *testing.T) {
	for want, list := range map[string][]string{
		"invalid":               nil,
		"a":                     {"a"},
		"a; b; c":               {"a", "b", "c"},
		"a; b; c; and 2 more":   {"a", "b", "c", "d", "e"},
		"a; b; c; and 97 more":  append([]string{"a", "b", "c"}, make([]string, 97)...),
		"checksum_mismatch: db": {"checksum_mismatch: db"},
	} {
		if got := firstFew(list); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What is dated in the future is named, each thing once, and an hour is forgiven.
func TestFutures(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	ahead := snapshot.Snapshot{Stamp: snapshot.StampOf(noon.AddDate(1, 0, 0))}
	past := snapshot.Snapshot{Stamp: snapshot.StampOf(noon.AddDate(-1, 0, 0))}
	for _, test := range []struct {
		name string
		list []snapshot.Snapshot
		beat time.Time
		want []string
	}{
		{"nothing", []snapshot.Snapshot{past}, noon, nil},
		{"a snapshot", []snapshot.Snapshot{past, ahead}, noon, []string{"snapshot 20270407T120000Z"}},
		{"a clock that was a little fast", nil, noon.Add(59 * time.Minute), nil},
		{"the daemon's life", nil, noon.Add(61 * time.Minute), []string{"the daemon's last sign of life"}},
		{"no daemon", nil, time.Time{}, nil},
	} {
		got := a.futures(nil, test.list, test.beat, noon)
		if len(got) != len(test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], test.want[i]) {
				t.Errorf("%s: %q, want %q", test.name, got[i], test.want[i])
			}
		}
	}
}

// configOf reads a configuration with more in it than the least.
func configOf(t *testing.T, more string) *config.Config {
	t.Helper()
	h := newHouse(t, "")
	head, _, _ := strings.Cut(more, "\n---\n")
	path := h.path("legs.toml")
	text := "state_dir = \"/srv/state\"\n[backup]\ndir = \"/srv/backups\"\n" + head
	if !strings.Contains(more, "[atocore]") {
		text += "\n[atocore]\ndb_path = \"/srv/a.db\"\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const withChroma = "[atocore]\ndb_path = \"/srv/a.db\"\nchroma_path = \"/srv/chroma\"\n"

const twoTargets = "[encryption]\nrecipients = [\"age1vhlkl7y5qsm4jyhyxxkqjfkkkwxzcu4zpxvxrjnmcydhv7cxmexqzqr8xh\"]\n" +
	"[[offsite]]\nname = \"laptop\"\ntype = \"dir\"\npath = \"/srv/laptop\"\n" +
	"[[offsite]]\nname = \"disk\"\ntype = \"dir\"\npath = \"/srv/disk\"\nmax_age = \"3d\"\n"

// Which legs a configuration has, in order, and how each is watched.
func TestLegsOfAConfiguration(t *testing.T) {
	const day = 24 * time.Hour
	type want struct {
		name, job string
		limit     time.Duration
		off       string
	}
	for _, test := range []struct {
		name, toml string
		want       []want
	}{
		{"the least", "", []want{
			{"snapshot", "daily", 26 * time.Hour, ""},
			{"prune", "daily", 26 * time.Hour, ""},
			{"scrub", "scrub", 9 * day, ""},
			{"drill", "drill", 100 * day, ""},
			{"live-drill", "", 0, `alarms.live_drill = "off"`},
		}},
		{"with Chroma", withChroma, []want{
			{"snapshot", "daily", 26 * time.Hour, ""},
			{"full", "weekly", 8 * day, ""},
			{"prune", "daily", 26 * time.Hour, ""},
			{"scrub", "scrub", 9 * day, ""},
			{"drill", "drill", 100 * day, ""},
			{"live-drill", "", 0, `alarms.live_drill = "off"`},
		}},
		{"only weekly takes", withChroma + "[schedule]\ndaily = \"\"\n", []want{
			{"snapshot", "weekly", 8 * day, ""},
			{"full", "weekly", 8 * day, ""},
			{"prune", "weekly", 8 * day, ""},
			{"scrub", "scrub", 9 * day, ""},
			{"drill", "drill", 100 * day, ""},
			{"live-drill", "", 0, `alarms.live_drill = "off"`},
		}},
		{"full ones only by the month", withChroma + "[schedule]\nweekly = \"\"\n[alarms]\nfull = \"32d\"\n", []want{
			{"snapshot", "daily", 26 * time.Hour, ""},
			{"full", "monthly", 32 * day, ""},
			{"prune", "daily", 26 * time.Hour, ""},
			{"scrub", "scrub", 9 * day, ""},
			{"drill", "drill", 100 * day, ""},
			{"live-drill", "", 0, `alarms.live_drill = "off"`},
		}},
		{"some are off", "[alarms]\nscrub = \"off\"\nprune = \"off\"\n", []want{
			{"snapshot", "daily", 26 * time.Hour, ""},
			{"prune", "daily", 0, `alarms.prune = "off"`},
			{"scrub", "scrub", 0, `alarms.scrub = "off"`},
			{"drill", "drill", 100 * day, ""},
			{"live-drill", "", 0, `alarms.live_drill = "off"`},
		}},
		{"a service that can be stopped", "[restore]\nstop_command = [\"stop\"]\nstart_command = [\"start\"]\n", []want{
			{"snapshot", "daily", 26 * time.Hour, ""},
			{"prune", "daily", 26 * time.Hour, ""},
			{"scrub", "scrub", 9 * day, ""},
			{"drill", "drill", 100 * day, ""},
			{"live-drill", "", 100 * day, ""},
		}},
		{"two targets", twoTargets, []want{
			{"snapshot", "daily", 26 * time.Hour, ""},
			{"offsite:laptop", "sync:laptop", 8 * day, ""},
			{"verify:laptop", "verify", 40 * day, ""},
			{"offsite:disk", "sync:disk", 3 * day, ""},
			{"verify:disk", "verify", 40 * day, ""},
			{"prune", "daily", 26 * time.Hour, ""},
			{"scrub", "scrub", 9 * day, ""},
			{"drill", "drill", 100 * day, ""},
			{"live-drill", "", 0, `alarms.live_drill = "off"`},
		}},
	} {
		got := legs(configOf(t, test.toml))
		if len(got) != len(test.want) {
			t.Errorf("%s: %d legs: %+v", test.name, len(got), got)
			continue
		}
		for i, w := range test.want {
			g := got[i]
			if g.name != w.name || g.job != w.job || g.limit != w.limit || g.off != w.off {
				t.Errorf("%s: %s by %s, %s, %q; want %+v", test.name, g.name, g.job, g.limit, g.off, w)
			}
			if g.hint == "" || !strings.HasPrefix(g.hint, "atobackupd ") {
				t.Errorf("%s: %s has the hint %q", test.name, g.name, g.hint)
			}
		}
	}
}

// What tells the legs apart for the judgement.
func TestLegsAreOfAKind(t *testing.T) {
	for _, l := range legs(configOf(t, withChroma+twoTargets)) {
		holds := l.name == health.LegSnapshot || l.name == health.LegFull
		offsite := strings.HasPrefix(l.name, "offsite:")
		drill := l.name == health.LegDrill || l.name == health.LegLiveDrill
		if l.holds != holds || l.follows != (offsite || l.name == health.LegPrune) ||
			(l.target != "") != offsite || (l.late == health.LevelWarning) != drill || (l.kind != "") != drill {
			t.Errorf("%+v", l)
		}
	}
}

func TestLonger(t *testing.T) {
	for _, test := range [][3]time.Duration{{1, 2, 2}, {2, 1, 2}, {0, 2, 0}, {2, 0, 2}, {-1, 5, -1}} {
		if got := longer(test[0], test[1]); got != test[2] {
			t.Errorf("longer(%d, %d) = %d", test[0], test[1], got)
		}
	}
}
