package app

import (
	"testing"
	"time"

	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// TestRetentionKnowsEveryKind holds the words of snapshot and of retention, which
// imports nothing of ours, equal: a kind or a stamp that retention does not know
// is kept for ever.
func TestRetentionKnowsEveryKind(t *testing.T) {
	kinds := map[snapshot.Kind]string{
		snapshot.Daily: retention.KindDaily, snapshot.Weekly: retention.KindWeekly, snapshot.Monthly: retention.KindMonthly,
		snapshot.Manual: retention.KindManual, snapshot.PreRestore: retention.KindPreRestore, snapshot.Adopted: retention.KindAdopted,
	}
	now := time.Date(2026, 4, 7, 6, 0, 0, 0, time.UTC)
	for kind, word := range kinds {
		if string(kind) != word {
			t.Errorf("%s is %s to retention", kind, word)
		}
		s := ForRetention(snapshot.Snapshot{Stamp: snapshot.StampOf(now), Kind: kind})
		if d := retention.Plan([]retention.Snapshot{s}, retention.Policy{Daily: 1}, now); len(d.Warnings) != 0 {
			t.Errorf("%s: %v", kind, d.Warnings)
		}
	}
	for _, word := range []string{"daily", "weekly", "monthly", "manual"} {
		kind, err := snapshot.ParseKind(word)
		if err != nil || kinds[kind] != word {
			t.Errorf("%s: %s, %v", word, kind, err)
		}
	}
}
