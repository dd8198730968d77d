package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo tells the story with the binary that a newcomer builds: the writer
// is a process of its own, so this needs the real one.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "atobackupd")
	output(t, ".", "go", "build", "-o", binary, ".")
	t.Setenv("TMPDIR", dir)
	story := output(t, dir, binary, "demo")
	for _, line := range []string{"a store", "prune keeps", "in the clear: none", "every byte is that of the snapshot", "Every step was real"} {
		if !strings.Contains(story, line) {
			t.Errorf("the story lacks %q:\n%s", line, story)
		}
	}
	if n := strings.Count(story, "\n"); n > 32 {
		t.Errorf("the story has %d lines, which nobody reads:\n%s", n, story)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the demonstration left something behind: %v %v", left, err)
	}
}
