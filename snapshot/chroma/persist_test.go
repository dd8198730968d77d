package chroma

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDisorder(t *testing.T) {
	now := time.Date(2026, 4, 7, 6, 0, 0, 0, time.UTC)
	file := func(path string, age time.Duration) Entry {
		return Entry{Path: path, Type: TypeFile, MTime: now.Add(-age)}
	}
	for name, c := range map[string]struct {
		entries          []Entry
		underWay, atRest string
	}{
		"nothing":         {nil, "", ""},
		"pickle newest":   {[]Entry{file("s/header.bin", 9), file("s/index_metadata.pickle", 8)}, "", ""},
		"all at one time": {[]Entry{file("s/header.bin", 8), file("s/index_metadata.pickle", 8)}, "", ""},
		"header newer": {
			[]Entry{file("s/header.bin", 7), file("s/index_metadata.pickle", 8)},
			"s/header.bin is newer than index_metadata.pickle",
			"",
		},
		"last file newer": {
			[]Entry{file("s/header.bin", 9), file("s/index_metadata.pickle", 8), file("s/link_lists.bin", 7)},
			"s/link_lists.bin is newer than index_metadata.pickle",
			"",
		},
		"no pickle yet": {[]Entry{file("s/header.bin", 7)}, "s has no index_metadata.pickle yet", ""},
		"the second segment": {
			[]Entry{
				file("a/header.bin", 9),
				file("a/index_metadata.pickle", 8),
				file("b/length.bin", 7),
				file("b/index_metadata.pickle", 8),
			},
			"b/length.bin is newer than index_metadata.pickle",
			"",
		},
		"newer and just not at rest": {
			[]Entry{file("s/header.bin", staleAfter-1), file("s/index_metadata.pickle", staleAfter)},
			"s/header.bin is newer than index_metadata.pickle",
			"",
		},
		"newer and at rest": {
			[]Entry{file("s/header.bin", staleAfter), file("s/index_metadata.pickle", staleAfter+1)},
			"",
			"s/header.bin is newer than index_metadata.pickle",
		},
		"in the future": {
			[]Entry{file("s/header.bin", -time.Hour), file("s/index_metadata.pickle", 8)},
			"s/header.bin is newer than index_metadata.pickle",
			"",
		},
		"other files do not count": {
			[]Entry{
				file("s/other.bin", 7),
				file("s/index_metadata.pickle", 8),
				{Path: "s/header.bin", Type: TypeSymlink, MTime: now},
			},
			"",
			"",
		},
	} {
		underWay, atRest := persistRunning(c.entries, now)
		if underWay != c.underWay || atRest != c.atRest {
			t.Errorf("%s: %q, %q", name, underWay, atRest)
		}
	}
}

func TestJustWritten(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]bool{
		0:             true,
		timeGrain - 1: true,
		timeGrain:     false,
		time.Hour:     false,
		-1:            false,
	} {
		if got := justWritten([]Entry{{Path: "x", Type: TypeFile, MTime: now.Add(-age)}}, now) != ""; got != want {
			t.Errorf("age %v: %v", age, got)
		}
	}
}

func TestPersistUnderWay(t *testing.T) {
	dir := unpack(t, "whole")
	if underWay, why, err := PersistUnderWay(dirAt(dir)); underWay || err != nil {
		t.Errorf("at rest: %q, %v", why, err)
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(segmentOf(t, dir), level0Name), now, now); err != nil {
		t.Fatal(err)
	}
	if underWay, why, err := PersistUnderWay(dirAt(dir)); !underWay || err != nil || !strings.Contains(
		why,
		level0Name,
	) {
		t.Errorf("level 0 written: %v, %q, %v", underWay, why, err)
	}
}
