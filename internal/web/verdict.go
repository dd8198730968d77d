package web

import (
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/history"
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

// newVerdict decides what is said.
func newVerdict(state *State) verdict {
	c := newClock(state)
	v := verdict{Level: state.Level}
	restore := restorable(state, c, func(snapshot.Stamp) bool { return true })
	if full := restorable(state, c, state.fullStamps().has); full != restore && full != "" {
		v.Vectors = "With the vector store: to " + full + "."
	}
	found := problems(state)
	switch {
	case len(found) > 0:
		v.Headline, v.Detail, v.Command, v.Others = found[0].Text, found[0].Detail, found[0].Command, found[1:]
		v.Level = worst(v.Level, found[0].Level)
		v.Restore = "You cannot restore: no valid snapshot is known, here or off-site."
		if restore != "" {
			v.Restore = "You can still restore to " + restore + "."
		}
	case restore == "":
		v.Headline, v.Command = "There is nothing to restore to yet.", state.Commands.backup(false)
		v.Level = worst(v.Level, LevelWarning) // no leg is late, but green would be a lie
		v.Restore = firstTake(state, c)
	default:
		v.Headline = "You can restore to " + restore + "."
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

// problems gives what is wrong, the gravest first.
func problems(state *State) []problem {
	c := newClock(state)
	var found []problem
	if state.Pending != "" {
		found = append(found, problem{LevelCritical, "A restore was interrupted and waits for you.", state.Pending, state.Commands.command("restore", "--resume")})
	}
	legs := make(map[string]bool)
	for _, leg := range state.Legs {
		legs[leg.Name] = true
		if leg.Level != LevelOK {
			found = append(found, problem{leg.Level, plainly(leg, c), leg.Message, state.Commands.forLeg(leg.Name)})
		}
	}
	for _, alarm := range openAlarms(state) {
		if !legs[alarm.Leg] { // that of a leg speaks through the leg
			found = append(found, problem{alarm.Level, sentence(legTitle(alarm.Leg) + " needs you"), alarm.Message, state.Commands.forLeg(alarm.Leg)})
		}
	}
	slices.SortStableFunc(found, func(a, b problem) int { return int(levelNumber(b.Level) - levelNumber(a.Level)) })
	return found
}

// plainly says what is wrong with a leg, for somebody who does not know legs.
func plainly(leg Leg, c clock) string {
	never := leg.LastSuccess.IsZero()
	stale := !never && leg.Limit > 0 && c.now.Sub(leg.LastSuccess) > leg.Limit
	since := c.words(leg.LastSuccess)
	pick := func(ifNever, ifStale, ifFailed string) string {
		switch {
		case never:
			return ifNever
		case stale:
			return ifStale
		}
		return ifFailed
	}
	switch leg.Name {
	case "snapshot":
		return pick("No snapshot was ever taken.", "No snapshot has been taken since "+since+".", "The last attempt to take a snapshot failed.")
	case "full":
		return pick("The vector store was never saved.", "The vector store has not been saved since "+since+".", "The last attempt to save the vector store failed.")
	case "prune":
		return pick("Old snapshots were never pruned.", "Old snapshots have not been pruned since "+since+".", "Old snapshots could not be pruned.")
	case "scrub":
		return pick("Stored snapshots were never checked again.", "Stored snapshots have not been checked again since "+since+".", "Stored snapshots did not pass their last check.")
	case "drill":
		return pick("No restore was ever rehearsed.", "No restore has been rehearsed since "+since+".", "The last rehearsal of a restore failed.")
	}
	if target, ok := strings.CutPrefix(leg.Name, "offsite:"); ok {
		return pick("Nothing has ever reached "+target+".", "Nothing has reached "+target+" since "+since+".", "The last attempt to reach "+target+" failed.")
	}
	return sentence(legTitle(leg.Name) + " is not well")
}

func openAlarms(state *State) []history.Alarm {
	return slices.DeleteFunc(slices.Clone(state.Alarms), func(a history.Alarm) bool { return !a.ResolvedAt.IsZero() })
}

func worst(a, b string) string {
	if levelNumber(b) > levelNumber(a) {
		return b
	}
	return a
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
		"snapshot": "Snapshots", "full": "Full snapshots", "prune": "Pruning", "scrub": "Scrub", "drill": "Restore drill",
		"config": "Configuration", "history": "History", "daemon": "Daemon", "restore": "Restore", "http": "The dashboard and the API",
	}
	if title, ok := titles[name]; ok {
		return title
	}
	if target, ok := strings.CutPrefix(name, "offsite:"); ok {
		return "Off-site to " + target
	}
	if job, ok := strings.CutPrefix(name, "job:"); ok {
		return "Job " + job
	}
	return name
}
