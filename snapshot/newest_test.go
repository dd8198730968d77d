package snapshot_test

import (
	"testing"
	"time"

	"github.com/atocore/atobackupd/snapshot"
)

func TestNewest(t *testing.T) {
	now := time.Date(2026, 4, 7, 6, 0, 0, 0, time.UTC)
	yes, no := true, false
	entry := func(stamp snapshot.Stamp, kind snapshot.Kind, full bool, valid *bool) snapshot.Snapshot {
		return snapshot.Snapshot{Stamp: stamp, Kind: kind, Full: full, Valid: valid}
	}
	for _, test := range []struct {
		name       string
		list       []snapshot.Snapshot
		want, full snapshot.Stamp
	}{
		{name: "none"},
		{name: "in any order", want: "20260406T060000Z", full: "20260405T060000Z", list: []snapshot.Snapshot{
			entry("20260406T060000Z", snapshot.Daily, false, &yes), entry("20260405T060000Z", snapshot.Weekly,
				true, &yes)}},
		{name: "the present second counts, the next does not", want: "20260407T060000Z", list: []snapshot.Snapshot{
			entry("20260407T060000Z", snapshot.Daily, false, &yes), entry("20260407T060001Z", snapshot.Daily,
				false, &yes)}},
		{name: "a kind of a later version counts nowhere", want: "20260405T060000Z", full: "20260405T060000Z",
			list: []snapshot.Snapshot{entry("20260405T060000Z", snapshot.Weekly, true, &yes),
				entry("20260406T060000Z", "hourly", true, &yes), entry("20260406T070000Z", "", true, &yes)}},
		{name: "2040 hides nothing", want: "20260406T060000Z", full: "20260406T060000Z", list: []snapshot.Snapshot{
			entry("20260406T060000Z", snapshot.Manual, true, &yes), entry("20400101T000000Z", snapshot.Daily,
				true, &yes)}},
		{name: "only 2040", list: []snapshot.Snapshot{entry("20400101T000000Z", snapshot.Daily, true, &yes)}},
		{name: "neither invalid nor never validated", list: []snapshot.Snapshot{
			entry("20260405T060000Z", snapshot.Daily, true, &no), entry("20260406T060000Z", snapshot.Adopted,
				true, nil)}},
		{name: "never a pre-restore one", want: "20260405T060000Z", list: []snapshot.Snapshot{
			entry("20260405T060000Z", snapshot.Adopted, false, &yes), entry("20260406T060000Z",
				snapshot.PreRestore, true, &yes)}},
		{name: "a stamp that is none", list: []snapshot.Snapshot{entry("tomorrow", snapshot.PreRestore, true, &yes)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, full := range []bool{false, true} {
				want, got := test.want, snapshot.Stamp("")
				if full {
					want = test.full
				}
				if s := snapshot.Newest(test.list, now, full); s != nil {
					got = s.Stamp
				}
				if got != want {
					t.Errorf("full %v: %q, want %q", full, got, want)
				}
			}
		})
	}
}

// What is whole and lies in the future is named, the nearest first.
func TestAhead(t *testing.T) {
	now := time.Date(2026, 4, 7, 6, 0, 0, 0, time.UTC)
	yes, no := true, false
	list := []snapshot.Snapshot{
		{Stamp: "20260407T060000Z", Kind: snapshot.Daily, Full: true, Valid: &yes}, // it counts
		{Stamp: "20260501T000000Z", Kind: snapshot.Daily, Full: true, Valid: &no},
		{Stamp: "20260502T000000Z", Kind: snapshot.PreRestore, Full: true, Valid: &yes},
		{Stamp: "20260503T000000Z", Kind: snapshot.Daily, Full: true, Valid: &yes, Foreign: true},
		{Stamp: "20400101T000000Z", Kind: snapshot.Weekly, Full: true, Valid: &yes},
		{Stamp: "20260601T000000Z", Kind: snapshot.Daily, Valid: &yes},
		{Stamp: "20390101T000000Z", Kind: snapshot.Weekly, Full: true, Valid: &yes},
	}
	for full, want := range map[bool]snapshot.Stamp{false: "20260601T000000Z", true: "20390101T000000Z"} {
		if s := snapshot.Ahead(list, now, full); s == nil || s.Stamp != want {
			t.Errorf("full %v: %v, want %s", full, s, want)
		}
	}
	if s := snapshot.Ahead(list[:4], now, false); s != nil {
		t.Errorf("none: %v", s)
	}
}
