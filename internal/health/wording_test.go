package health

import (
	"errors"
	"testing"
	"time"
)

// legIn is a leg of a name that is in one of the states that a leg can be in at
// noon; its limit is a day.
func legIn(name, state string) LegFacts {
	f := LegFacts{Name: name, Limit: day, Late: LevelCritical, Watched: ago(hour), Hint: "atobackupd do",
		Holds: name == LegSnapshot || name == LegFull}
	switch state {
	case "never":
		f.Due = ago(time.Minute)
	case "late":
		f.LastSuccess, f.Newest = ago(2*day), ago(2*day)
		if !f.Holds {
			f.Newest = time.Time{}
		}
	case "failed":
		f.Last, f.LastError = ended("job", ago(hour), Failed, RunDetail{Failure: "error"}), "because"
	case "gone":
		f.LastSuccess = ago(hour)
	case "future":
		f.LastSuccess, f.Ahead = ago(hour), "20300101T000000Z"
	case "unknown":
		f.Err = errors.New("permission denied")
	case "ahead":
		f.LastSuccess, f.Newest = ago(-2*hour), ago(-2*hour)
		if !f.Holds {
			f.Newest = time.Time{}
		}
	}
	return f
}

// What is said of each leg in each state, to somebody who does not know legs.
func TestWordsOfLegs(t *testing.T) {
	messages := map[string][2]string{ // of a leg that holds snapshots, and of the others
		"never": {"it has not run yet", "it has not run yet"},
		"late": {"its newest snapshot is of 2026-04-05 12:00 UTC, more than 24 hours ago",
			"its last success was 2026-04-05 12:00 UTC, more than 24 hours ago"},
		"failed":  {"because", "because"},
		"gone":    {"there is no valid snapshot any more", ""},
		"future":  {"snapshot 20300101T000000Z is whole, and dated in the future: none that counts is here", ""},
		"unknown": {"permission denied", "permission denied"},
		"ahead": {"its newest snapshot is of 2026-04-07 14:00 UTC, which has not come yet: check the clock",
			"its last success was 2026-04-07 14:00 UTC, which has not come yet: check the clock"},
	}
	for _, test := range []struct{ leg, state, level, headline string }{
		{LegSnapshot, "never", "warning", "There is nothing to restore to yet."},
		{LegSnapshot, "late", "critical", "No snapshot has been taken since 2026-04-05 12:00 UTC."},
		{LegSnapshot, "failed", "critical", "The last attempt to take a snapshot failed."},
		{LegSnapshot, "gone", "critical", "There is no snapshot to restore to any more."},
		{LegSnapshot, "future", "critical", "Every valid snapshot is dated in the future."},
		{LegFull, "future", "critical", "Every valid snapshot of the vector store is dated in the future."},
		{LegSnapshot, "unknown", "critical", "It is not known how snapshot stands."},
		{LegSnapshot, "ahead", "warning", "The clock was wrong when snapshot last went well."},
		{LegFull, "never", "warning", "The vector store was never saved."},
		{LegFull, "late", "critical", "The vector store has not been saved since 2026-04-05 12:00 UTC."},
		{LegFull, "failed", "critical", "The last attempt to save the vector store failed."},
		{LegFull, "gone", "critical", "There is no snapshot of the vector store any more."},
		{LegPrune, "never", "warning", "Old snapshots were never pruned."},
		{LegPrune, "late", "critical", "Old snapshots have not been pruned since 2026-04-05 12:00 UTC."},
		{LegPrune, "failed", "critical", "Old snapshots could not be pruned."},
		{LegScrub, "never", "warning", "Stored snapshots were never checked again."},
		{LegScrub, "late", "critical", "Stored snapshots have not been checked again since 2026-04-05 12:00 UTC."},
		{LegScrub, "failed", "critical", "Stored snapshots did not pass their last check."},
		{LegDrill, "never", "warning", "No restore was ever rehearsed."},
		{LegDrill, "late", "critical", "No restore has been rehearsed since 2026-04-05 12:00 UTC."},
		{LegDrill, "failed", "critical", "The last rehearsal of a restore failed."},
		{LegLiveDrill, "never", "warning", "No restore was ever rehearsed on the service itself."},
		{LegLiveDrill, "late", "critical",
			"No restore has been rehearsed on the service itself since 2026-04-05 12:00 UTC."},
		{LegLiveDrill, "failed", "critical", "The last rehearsal on the service itself failed."},
		{LegOffsite("laptop"), "never", "warning", "Nothing has ever reached laptop."},
		{LegOffsite("laptop"), "late", "critical", "Nothing has reached laptop since 2026-04-05 12:00 UTC."},
		{LegOffsite("laptop"), "failed", "critical", "The last attempt to bring laptop up to date failed."},
		{LegOffsite("laptop"), "unknown", "critical", "It is not known how offsite:laptop stands."},
		{LegOffsite("laptop"), "ahead", "warning", "The clock was wrong when offsite:laptop last went well."},
		{LegVerify("laptop"), "never", "warning", "What laptop holds was never checked."},
		{LegVerify("laptop"), "late", "critical", "What laptop holds has not been checked since 2026-04-05 12:00 UTC."},
		{LegVerify("laptop"), "failed", "critical", "What laptop holds did not pass its last check."},
	} {
		f := legIn(test.leg, test.state)
		got := Judge(Facts{Legs: []LegFacts{f}}, noon).Legs[0]
		if got.Level != test.level || got.Headline != test.headline {
			t.Errorf("%s, %s: %s, %q; want %s, %q", test.leg, test.state, got.Level, got.Headline, test.level,
				test.headline)
		}
		message := messages[test.state][1]
		if f.Holds {
			message = messages[test.state][0]
		}
		if got.Message != message {
			t.Errorf("%s, %s: %q, want %q", test.leg, test.state, got.Message, message)
		}
		hint := "atobackupd do"
		switch test.state { // no job mends a clock
		case "ahead":
			hint = "timedatectl"
		case "future":
			hint = "look at the clock: `timedatectl`; if it is right now: atobackupd backup"
		}
		if got.Hint != hint {
			t.Errorf("%s, %s: the hint is %q, want %q", test.leg, test.state, got.Hint, hint)
		}
	}
}
