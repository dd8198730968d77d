// Package retention decides which snapshots to keep, and says why.
//
// Plan is a pure function: it reads no clock and no disk, returns the same answer
// whatever the order of its input, and answers for every input. It deletes
// nothing; the caller carries the decision out, under its own locks.
//
// A snapshot of kind adopted was copied from what another program made, which
// may lie about its time. It holds a slot only in a day, week or month in which
// no other kind does, and can push none of those out: their slots are counted
// without it.
//
// Buckets are counted, not time: "daily 7" is the last seven calendar days that
// have a snapshot, so a machine that was off for a month loses nothing when it
// comes back. What the package does not understand (a kind it has never heard
// of, a time that disagrees with its stamp, a stamp that is listed twice, a
// stamp in the future) is kept, warned about, and counted nowhere: it can
// neither be deleted nor push anything else out.
package retention

import "time"

// The kinds of snapshots that Plan knows. All but KindPreRestore hold slots.
const (
	KindDaily      = "daily"
	KindWeekly     = "weekly"
	KindMonthly    = "monthly"
	KindManual     = "manual"
	KindPreRestore = "pre-restore"
	KindAdopted    = "adopted"
)

// StampLayout is how a stamp is written, in UTC, for time.Parse and Format.
const StampLayout = "20060102T150405Z"

// Snapshot is what Plan needs to know of one snapshot.
type Snapshot struct {
	Stamp  string    // YYYYMMDDTHHMMSSZ: the identity
	Time   time.Time // the parsed stamp
	Kind   string    // daily, weekly, monthly, manual, pre-restore or adopted
	Full   bool      // holds every artifact, not only the small ones
	Valid  bool      // the last validation found nothing wrong
	Pinned bool      // a person asked for it to be kept
	InUse  string    // why it must stay just now, e.g. "upload to laptop"; empty if it is free

	// Suspect says that its source had shrunk when it was taken, and that nobody
	// has accepted that: what was valid before it is kept meanwhile.
	Suspect bool

	// InvalidSince is when an invalid one was first found to be so, where that
	// was after it was taken: a snapshot that rots in its third month is then
	// kept for Policy.Invalid from that day, so that somebody can heal it. Zero
	// counts from Time.
	InvalidSince time.Time
}

// Slot is one day, week or month that a snapshot stands for.
type Slot struct {
	Tier   string // daily, weekly or monthly
	Day    string // the calendar day of the snapshot that holds it, YYYY-MM-DD
	Number int    // 1 is the newest
	Of     int    // how many the policy keeps
	Label  string // the reason in words: "weekly 2026-04-05 (Sunday, 1 of 4)"
}

// Verdict is the answer for one snapshot.
type Verdict struct {
	Stamp   string
	Keep    bool
	Reasons []string // never empty: all that keep it, or why nothing does
	Slots   []Slot   // the slots it holds; each one's Label is among Reasons
}

// Decision is the whole plan.
type Decision struct {
	Verdicts []Verdict // one for every input, oldest first

	// Held says that the plan deletes too much to be carried out unasked.
	// Verdicts are what it would have done.
	Held       bool
	HeldReason string

	Warnings []string // what a person should look into
}

// Keep returns the verdicts that keep, oldest first.
func (d Decision) Keep() []Verdict { return d.where(true) }

// Delete returns the verdicts that delete, oldest first, also those of a plan
// that is Held: look at Held before acting on them.
func (d Decision) Delete() []Verdict { return d.where(false) }

func (d Decision) where(keep bool) []Verdict {
	var found []Verdict
	for _, v := range d.Verdicts {
		if v.Keep == keep {
			found = append(found, v)
		}
	}
	return found
}
