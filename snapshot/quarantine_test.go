package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSurplus(t *testing.T) {
	a, b, c, d := failedTake{
		"20260401T060000Z",
		60,
	}, failedTake{
		"20260402T060000Z",
		60,
	}, failedTake{
		"20260403T060000Z",
		30,
	}, failedTake{
		"20260404T060000Z",
		300,
	}
	tests := []struct {
		name string
		list []failedTake
		want []string
	}{
		{"none", nil, nil},
		{"one", []failedTake{a}, nil},
		{"one that is larger than the live store", []failedTake{d}, nil},
		{"two that fit", []failedTake{b, c}, nil},
		{"two that do not", []failedTake{a, b}, []string{a.name}},
		{"the newest alone is too large", []failedTake{c, d}, []string{c.name}},
		{"four, in any order", []failedTake{c, a, d, b}, []string{a.name, b.name, c.name}},
		{"three that would fit", []failedTake{c, a, {"20260405T060000Z", 1}}, []string{a.name}},
	}
	for _, test := range tests {
		if got := surplus(test.list, 100); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestBoundQuarantine(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"20260401T060000Z", "20260402T060000Z", "20260403T060000Z", "notes"} {
		if err := os.MkdirAll(filepath.Join(s.quarantine(), name, "db"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(
			filepath.Join(s.quarantine(), name, "db", "a.db"),
			make([]byte, 100),
			0o600,
		); err != nil {
			t.Fatal(err)
		}
	}
	removed, err := s.BoundQuarantine(1000)
	if err != nil || !slices.Equal(removed, []string{"20260401T060000Z"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	removed, err = s.BoundQuarantine(150)
	if err != nil || !slices.Equal(removed, []string{"20260402T060000Z"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	left, err := os.ReadDir(s.quarantine())
	if err != nil || len(left) != 2 || left[1].Name() != "notes" {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestLiveBytes(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a.db": 10, "a.db-wal": 5, "chroma/x/y": 7, "chroma/z": 1} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := LiveBytes(Sources{
		DB:       filepath.Join(dir, "a.db"),
		Chroma:   filepath.Join(dir, "chroma"),
		Registry: filepath.Join(dir, "none"),
	}); got != 23 {
		t.Errorf("%d bytes, want 23", got)
	}
	if got := LiveBytes(Sources{}); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
}
