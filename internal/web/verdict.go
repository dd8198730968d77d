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
	Command  string    // that mends the headline; "" where there is none
	Restore  string    // to when one can restore; "" where the headline says it
	Vectors  string    // the same for snapshots with Chroma, where that differs
	Others   []problem // besides the headline
}

// problem is one thing that is wrong, and the command to look at it or mend it.
type problem struct {
	Level   string
	Text    string
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
		v.Headline, v.Command, v.Others = sentence(found[0].Text), found[0].Command, found[1:]
		v.Level = worst(v.Level, found[0].Level)
		v.Restore = "You cannot restore: no valid snapshot is known, here or off-site."
		if restore != "" {
			v.Restore = "You can still restore to " + restore + "."
		}
	case restore == "":
		v.Headline, v.Command = "There is nothing to restore to yet.", state.Commands.backup(false)
		v.Restore = firstTake(state, c)
	default:
		v.Headline = "You can restore to " + restore + "."
	}
	return v
}

// restorable lists to when one can restore from where: "06:00 today from here,
// and to Sunday 05:00 from laptop"; "" when from nowhere.
func restorable(state *State, c clock, wanted func(snapshot.Stamp) bool) string {
	var places []string
	for _, s := range slices.Backward(state.Snapshots) {
		if s.IsValid() && s.Kind.HoldsSlots() && !s.Stamp.Time().After(state.Now) && wanted(s.Stamp) {
			places = append(places, c.stamp(s.Stamp)+" from here")
			break
		}
	}
	for _, t := range state.Targets {
		for _, stamp := range slices.Backward(t.Stamps) {
			if wanted(stamp) {
				places = append(places, c.stamp(stamp)+" from "+t.Name)
				break
			}
		}
	}
	if len(places) > 1 {
		last := len(places) - 1
		return strings.Join(places[:last], ", to ") + ", and to " + places[last]
	}
	return strings.Join(places, "")
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
	var found []problem
	if state.Pending != "" {
		found = append(found, problem{LevelCritical, state.Pending, state.Commands.command("restore", "--resume")})
	}
	legs := make(map[string]bool)
	for _, leg := range state.Legs {
		legs[leg.Name] = true
		if leg.Level != LevelOK {
			found = append(found, problem{leg.Level, legTitle(leg.Name) + ": " + orElse(leg.Message, "it is not well"), state.Commands.forLeg(leg.Name)})
		}
	}
	for _, alarm := range openAlarms(state) {
		if !legs[alarm.Leg] { // that of a leg speaks through the leg
			found = append(found, problem{alarm.Level, legTitle(alarm.Leg) + ": " + alarm.Message, state.Commands.forLeg(alarm.Leg)})
		}
	}
	slices.SortStableFunc(found, func(a, b problem) int { return int(levelNumber(b.Level) - levelNumber(a.Level)) })
	return found
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

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
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
		"snapshot": "Snapshots", "full": "Full snapshots", "prune": "Pruning", "scrub": "Scrub", "drill": "Restore drill",
		"config": "Configuration", "history": "History", "daemon": "Daemon", "restore": "Restore",
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
