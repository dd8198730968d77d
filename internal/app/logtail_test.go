package app

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// The tail keeps the newest lines, each of a bounded length and whole runes.
func TestLogTail(t *testing.T) {
	tail := &logTail{}
	var group sync.WaitGroup
	for i := range tailKept + 50 {
		group.Go(func() { tail.add(noon.Add(time.Duration(i)*time.Second), fmt.Sprint("line ", i)) })
	}
	group.Wait()
	if len(tail.lines) != tailKept {
		t.Errorf("%d lines are kept", len(tail.lines))
	}
	tail = &logTail{}
	for i := range 50 {
		tail.add(noon.Add(time.Duration(i)*time.Second), fmt.Sprint("line ", i))
	}
	for _, test := range []struct {
		since       time.Duration
		first, last string
		n           int
	}{
		{0, "line 30", "line 49", tailLines},
		{45 * time.Second, "line 45", "line 49", 5},
		{49 * time.Second, "line 49", "line 49", 1},
		{50 * time.Second, "", "", 0},
	} {
		lines := tail.since(noon.Add(test.since))
		if len(lines) != test.n || test.n > 0 && (lines[0] != test.first || lines[len(lines)-1] != test.last) {
			t.Errorf("since %s: %q", test.since, lines)
		}
	}
	for _, text := range []string{strings.Repeat("x", 5000), "x" + strings.Repeat("ü", 5000),
		strings.Repeat("日", 5000)} {
		tail.add(noon.Add(time.Hour), text)
		line := tail.since(noon.Add(time.Hour))[0]
		if len(line) > tailLength+len("…") || !utf8.ValidString(line) || !strings.HasSuffix(line, "…") {
			t.Errorf("%d bytes: %q", len(line), line)
		}
		tail.lines = nil
	}
}

// The handler hands on what it keeps, with what came by With.
func TestTailHandler(t *testing.T) {
	var out bytes.Buffer
	a := &App{process: newProcess()}
	a.Options.Log = slog.New(slog.NewTextHandler(&out, nil))
	a.KeepLog()
	log := a.Options.Log.With("target", "laptop")
	log.Info("pushed", "packs", 3)
	log.With("stamp", "20260407T060000Z").WithGroup("g").Warn("slow")
	log.Debug("not of this level")
	lines := a.process.tail.since(time.Time{})
	if len(lines) != 2 {
		t.Fatalf("%q", lines)
	}
	for i, want := range [][]string{
		{"level=INFO", "msg=pushed", "packs=3", "target=laptop"},
		{"level=WARN", "msg=slow", "target=laptop", "stamp=20260407T060000Z"},
	} {
		for _, word := range want {
			if !strings.Contains(lines[i], word) || !strings.Contains(out.String(), word) {
				t.Errorf("%s is missing in %q or in %q", word, lines[i], out.String())
			}
		}
		if strings.Contains(lines[i], "\n") {
			t.Errorf("more than a line: %q", lines[i])
		}
	}
	if strings.Contains(lines[0], "stamp=") {
		t.Errorf("what another logger says was kept: %q", lines[0])
	}
}
