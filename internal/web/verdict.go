package web

import (
	"slices"
	"strings"

	"github.com/atocore/atobackupd/snapshot"
)

// verdict is what the page says first: to when you could restore, or what is
// wrong and what to run.
type verdict struct {
	Level    string
	Headline string
	Detail   string    // what was reported about the headline
	Command  string    // to run about it; "" where there is none
	Restore  string    // to when one can restore; "" where the headline says it
	Vectors  string    // the same for snapshots with Chroma, where that differs
	Others   []problem // besides the headline
}

// problem is one thing that is wrong, and the command to look at it or mend it.
type problem struct {
	Level   string
	Text    string // in plain words
	Detail  string // as it was reported
	Command string
}

// newVerdict writes the report down as the page says it, with to when one can
// restore.
func newVerdict(state *State) verdict {
	c := newClock(state)
	v := verdict{Level: state.Status.Level}
	restore := restorable(state, c, func(snapshot.Stamp) bool { return true })
	if full := restorable(state, c, state.fullStamps().has); full != restore && full != "" {
		v.Vectors = "With the vector store: to " + full + "."
	}
	found := problems(state)
	if len(found) == 0 {
		v.Headline = "You can restore to " + restore + "."
		if restore == "" {
			v.Headline, v.Restore = "All is well.", firstTake(state, c)
		}
		return v
	}
	v.Headline, v.Detail, v.Command, v.Others = found[0].Text, found[0].Detail, found[0].Command, found[1:]
	switch {
	case restore != "":
		v.Restore = "You can still restore to " + restore + "."
	case snapshot.Ahead(state.Snapshots, state.Now, false) != nil:
		v.Restore = "You can restore only by name, to " +
			string(snapshot.Ahead(state.Snapshots, state.Now, false).Stamp) + " from here, which is dated in the future."
	case len(state.Takes) == 0:
		v.Restore = firstTake(state, c)
	default:
		v.Restore = "You cannot restore: no valid snapshot is known, here or off-site."
	}
	return v
}

// restorable says to when one can restore from where: "06:00 today from here
// and disk, and to Sunday 05:00 from laptop"; "" when from nowhere.
func restorable(state *State, c clock, wanted func(snapshot.Stamp) bool) string {
	var times []string
	places := make(map[string][]string)
	add := func(stamp snapshot.Stamp, place string) {
		at := c.words(stamp.Time())
		if places[at] == nil {
			times = append(times, at)
		}
		places[at] = append(places[at], place)
	}
	for _, s := range slices.Backward(state.Snapshots) {
		if s.Counts(state.Now) && wanted(s.Stamp) {
			add(s.Stamp, "here")
			break
		}
	}
	for _, t := range state.Targets {
		for _, stamp := range slices.Backward(t.Stamps) {
			if wanted(stamp) && !stamp.Time().After(state.Now) {
				add(stamp, t.Name)
				break
			}
		}
	}
	var parts []string
	for _, at := range times {
		parts = append(parts, at+" from "+enumerate(places[at]))
	}
	return strings.Join(parts, ", and to ")
}

// enumerate writes "a, b and c".
func enumerate(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " and " + list[last]
}

type stampSet map[snapshot.Stamp]bool

func (set stampSet) has(s snapshot.Stamp) bool { return set[s] }

// fullStamps are those that are known to hold Chroma, here or off-site.
func (st *State) fullStamps() stampSet {
	set := make(stampSet)
	for _, take := range st.Takes {
		if take.Full {
			set[take.Stamp] = true
		}
	}
	for _, s := range st.Snapshots {
		if s.Full {
			set[s.Stamp] = true
		}
	}
	return set
}

// problems returns what is wrong, the gravest first, with commands as they are
// typed here.
func problems(state *State) []problem {
	var found []problem
	for _, p := range state.Status.Problems() {
		found = append(found, problem{p.Level, p.Headline, p.Message, state.Commands.typed(p.Command())})
	}
	return found
}

// firstTake says when the first snapshot comes.
func firstTake(state *State, c clock) string {
	var first Upcoming
	for _, slot := range state.Next {
		if (slot.Job == "daily" || slot.Job == "weekly") && (first.At.IsZero() || slot.At.Before(first.At)) {
			first = slot
		}
	}
	if first.At.IsZero() {
		return "No snapshots are scheduled."
	}
	return "The first snapshot is due " + c.words(first.At) + "."
}

// legTitle names a leg, or what else an alarm is about, in words.
func legTitle(name string) string {
	titles := map[string]string{
		"daily": "Daily snapshot", "weekly": "Weekly snapshot",
		"snapshot": "Snapshots", "full": "Full snapshots", "prune": "Pruning", "scrub": "Scrub",
		"drill":      "Restore drill",
		"live-drill": "Live drill", "monthly": "Monthly snapshot", "verify": "Off-site check",
		"http": "The dashboard and the API", "restore": "Restore",
		"restore_pending": "Interrupted restore", "damaged": "Damage", "source_shrunk": "Shrunk source",
		"unverified": "Unproven vector store",
		"space":      "Disk space", "history": "History", "config": "Configuration", "notify": "Notifications",
		"daemon": "Daemon", "lock": "Lock", "clock": "Clock",
		"recipients": "Recipients", "shared": "Shared directory", "mount": "Backup disk",
	}
	if title, ok := titles[name]; ok {
		return title
	}
	if target, ok := strings.CutPrefix(name, "offsite:"); ok {
		return "Off-site to " + target
	}
	if target, ok := strings.CutPrefix(name, "verify:"); ok {
		return "Check of " + target
	}
	if job, ok := strings.CutPrefix(name, "job:"); ok {
		return "Job " + job
	}
	return name
}
