package app

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
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
