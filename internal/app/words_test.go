package app

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// TestRetentionKnowsEveryKind holds the words of snapshot and of retention, which
// imports nothing of ours, equal: a kind or a stamp that retention does not know
// is kept for ever.
func TestRetentionKnowsEveryKind(t *testing.T) {
	kinds := map[snapshot.Kind]string{
		snapshot.Daily:      retention.KindDaily,
		snapshot.Weekly:     retention.KindWeekly,
		snapshot.Monthly:    retention.KindMonthly,
		snapshot.Manual:     retention.KindManual,
		snapshot.PreRestore: retention.KindPreRestore,
		snapshot.Adopted:    retention.KindAdopted,
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

// TestOneStampLayout holds the stamps of snapshot and of retention equal.
func TestOneStampLayout(t *testing.T) {
	at := time.Date(2026, 4, 7, 6, 5, 4, 0, time.UTC)
	if got := at.Format(retention.StampLayout); got != string(snapshot.StampOf(at)) {
		t.Errorf("%s is %s to snapshot", got, snapshot.StampOf(at))
	}
}

// TestRetentionFormsHaveTheSameKeys holds the file's form of a policy and the
// vault's equal: a key of one alone would be lost on the way to a vault.
func TestRetentionFormsHaveTheSameKeys(t *testing.T) {
	c := config.Default().Retention
	var inFile []string
	for i, form := 0, reflect.TypeFor[config.Retention](); i < form.NumField(); i++ {
		inFile = append(inFile, form.Field(i).Tag.Get("toml"))
	}
	data, err := json.Marshal(policyOf(c, time.UTC, "0 5 * * 0"))
	if err != nil {
		t.Fatal(err)
	}
	var inVault map[string]any
	if err := json.Unmarshal(data, &inVault); err != nil {
		t.Fatal(err)
	}
	want := append(inFile, "timezone", "week_start")
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(inVault)); !slices.Equal(got, want) {
		t.Errorf("the vault has %s, the file %s", strings.Join(got, " "), strings.Join(want, " "))
	}
}
