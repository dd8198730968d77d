package health

import "time"

// legWords are the headlines of a leg, for somebody who does not know legs.
type legWords struct {
	never, failed, unknown, gone, ahead, clock string
	lateSince                                  string // followed by a time
}

// late says since when nothing came.
func (w legWords) late(since time.Time) string {
	if since.IsZero() {
		return w.never
	}
	return w.lateSince + " " + Clock(since) + "."
}

func (f LegFacts) words() legWords {
	w := legWords{unknown: "It is not known how " + f.Name + " stands.", clock: "The clock was wrong when " + f.Name +
		" last went well."}
	switch f.Name {
	case LegSnapshot:
		w.never, w.lateSince, w.failed = "There is nothing to restore to yet.", "No snapshot has been taken since",
			"The last attempt to take a snapshot failed."
		w.gone = "There is no snapshot to restore to any more."
		w.ahead = "Every valid snapshot is dated in the future."
	case LegFull:
		w.never, w.lateSince, w.failed = "The vector store was never saved.",
			"The vector store has not been saved since", "The last attempt to save the vector store failed."
		w.gone = "There is no snapshot of the vector store any more."
		w.ahead = "Every valid snapshot of the vector store is dated in the future."
	case LegPrune:
		w.never, w.lateSince, w.failed = "Old snapshots were never pruned.", "Old snapshots have not been pruned since",
			"Old snapshots could not be pruned."
	case LegScrub:
		w.never, w.lateSince, w.failed = "Stored snapshots were never checked again.",
			"Stored snapshots have not been checked again since", "Stored snapshots did not pass their last check."
	case LegDrill:
		w.never, w.lateSince, w.failed = "No restore was ever rehearsed.", "No restore has been rehearsed since",
			"The last rehearsal of a restore failed."
	case LegLiveDrill:
		w.never, w.lateSince, w.failed = "No restore was ever rehearsed on the service itself.",
			"No restore has been rehearsed on the service itself since",
			"The last rehearsal on the service itself failed."
	}
	switch prefix, target := cutTarget(f.Name); prefix {
	case offsitePrefix:
		w.never, w.lateSince, w.failed = "Nothing has ever reached "+target+".", "Nothing has reached "+target+" since",
			"The last attempt to bring "+target+" up to date failed."
	case verifyPrefix:
		w.never, w.lateSince, w.failed = "What "+target+" holds was never checked.", "What "+target+
			" holds has not been checked since", "What "+target+" holds did not pass its last check."
	}
	return w
}
