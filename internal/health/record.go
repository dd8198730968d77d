package health

import (
	"encoding/json"
	"strings"
	"time"
)

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Running     Outcome = "running"
	OK          Outcome = "ok"
	Failed      Outcome = "failed"
	Skipped     Outcome = "skipped"
	Interrupted Outcome = "interrupted"
	TimedOut    Outcome = "timeout"
)

// Run is one attempt at a job, by the daemon or by a command.
type Run struct {
	ID         int64           `json:"id"`
	Job        string          `json:"job"`
	Kind       string          `json:"kind,omitempty"`  // of the snapshot
	Slot       time.Time       `json:"slot,omitzero"`   // zero when it was not the clock that asked
	Stamp      string          `json:"stamp,omitempty"` // of the snapshot
	StartedAt  time.Time       `json:"started_at"`
	FinishedAt time.Time       `json:"finished_at,omitzero"`
	Outcome    Outcome         `json:"outcome"`
	Error      string          `json:"error,omitempty"`
	Bytes      int64           `json:"bytes"`
	Detail     json.RawMessage `json:"detail,omitempty"`
}

// RunDetail is what a run's record says beyond its columns.
type RunDetail struct {
	Failure string `json:"failure,omitempty"` // the kind of failure: a state of `sync`, or "locked", "usage", …
	Hint    string `json:"hint,omitempty"`    // the failure's own next step
	Daemon  bool   `json:"daemon,omitempty"`  // the daemon ran it, and not a person
	Full    bool   `json:"full,omitempty"`    // it was to hold Chroma
	Free    int64  `json:"free,omitempty"`    // bytes on the disk of the snapshots, after a prune
	Left    int    `json:"left,omitempty"`    // what a bounded check left for the next one
	Note    string `json:"note,omitempty"`    // what a person had to say of a drill
	// Of a live drill, the snapshot of what was live before it.
	PreRestore string `json:"pre_restore_snapshot,omitempty"`
}

// DetailOf returns the detail of a run; an empty one where none can be read.
func DetailOf(run Run) (d RunDetail) {
	_ = json.Unmarshal(run.Detail, &d) // none, or a stranger's: then nothing more is known
	return d
}

// Conclusive reports whether a run that failed says something about the leg.
// One that found its target away, was cut short, or was a slip of a person's
// fingers does not; neither does one that found the lock taken, unless it is a
// take of the daemon, or one that a person began and that was refused for safety:
// the condition that refuses it says so, as long as it holds.
func Conclusive(run Run) bool {
	detail := DetailOf(run)
	switch {
	case run.Outcome != Failed && run.Outcome != TimedOut:
		return false
	case detail.Failure == "locked":
		return detail.Daemon && run.Job == "backup"
	case detail.Failure == "refused":
		return detail.Daemon
	}
	return detail.Failure != "usage"
}

// Decisive returns the newest of the runs, newest first, that says how its leg
// stands: one that went well or failed for a reason of its own. Order is that of
// the list, which is by sequence: a run that is dated in the future hides none
// that came after it.
func Decisive(runs []Run) (Run, bool) {
	for _, run := range runs {
		if run.Outcome == OK || Conclusive(run) {
			return run, true
		}
	}
	return Run{}, false
}

// Names of legs. Those of a target carry its name.
const (
	LegSnapshot  = "snapshot"
	LegFull      = "full"
	LegPrune     = "prune"
	LegScrub     = "scrub"
	LegDrill     = "drill"
	LegLiveDrill = "live-drill"

	offsitePrefix = "offsite:"
	verifyPrefix  = "verify:"
)

// LegOffsite names the leg of what a target holds.
func LegOffsite(target string) string { return offsitePrefix + target }

// LegVerify names the leg of the checks of what a target holds.
func LegVerify(target string) string { return verifyPrefix + target }

// cutTarget splits the name of a target's leg.
func cutTarget(leg string) (prefix, target string) {
	for _, prefix := range []string{offsitePrefix, verifyPrefix} {
		if target, ok := strings.CutPrefix(leg, prefix); ok {
			return prefix, target
		}
	}
	return "", ""
}
