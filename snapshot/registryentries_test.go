package snapshot

import (
	"bytes"
	"maps"
	"runtime"
	"strings"
	"testing"
)

func TestRegistryEntries(t *testing.T) {
	for data, want := range map[string]map[string]int{
		``:                               {},
		`[1, 2]`:                         {},
		`{}`:                             {},
		`{"a": [], "b": {}, "c": 7}`:     {"a": 0, "b": 0, "c": 0},
		`{"a": [ ], "b": { }}`:           {"a": 0, "b": 0},
		`{"a": [1], "b": {"x": 1}}`:      {"a": 1, "b": 1},
		`{"a": [[1, 2], {"x": [3, 4]}]}`: {"a": 2},
		`{"a": ["1,2]", "\",", "\\"]}`:   {"a": 3},
		`{"a": [NaN, -Infinity]}`:        {"a": 2},
		`{"a": [1], "a": [1, 2]}`:        {"a": 2},
		`{"a": [1, 2], "b": [1,`:         {"a": 2},
	} {
		if got := registryEntries(t.Context(), []byte(data)); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", data, got, want)
		}
	}
	many := "{" + strings.Repeat(`"k":0,`, 3) + "}"
	if got := registryEntries(t.Context(), []byte(many)); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// A registry of the size that is read, all of it small entries, is compared in a
// few times its own memory.
func TestHugeRegistryIsComparedInProportion(t *testing.T) {
	data := append([]byte(`{"projects":[{}`), bytes.Repeat([]byte(",{}"), 8<<20/3)...)
	data = append(data, "]}"...)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	entries := registryEntries(t.Context(), data)
	runtime.ReadMemStats(&after)
	if entries["projects"] != 8<<20/3+1 {
		t.Errorf("%v", entries)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8*uint64(len(data)) {
		t.Errorf("%d bytes were allocated for %d", used, len(data))
	}
	if d := Diff(Contents{Registry: topLevel(data)},
		Contents{Registry: topLevel(data[:len(data)-5])}); len(d.Registry) != 1 {
		t.Errorf("a registry that is too large to compare entry by entry: %d changes", len(d.Registry))
	}
}
