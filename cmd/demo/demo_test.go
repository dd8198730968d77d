package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo tells the story with the binary that a newcomer runs: the writer is
// a process of its own, so this needs the real one.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "demo")
	t.Setenv("TMPDIR", dir)
	output := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	output("go", "build", "-o", binary, ".")
	story := output(binary)
	for _, line := range []string{
		"a store", "no request to flush", "prune keeps", "in the clear: none", "every byte is that of the snapshot",
		"Every step was real",
	} {
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
	if out, err := exec.Command(binary, "please").CombinedOutput(); err == nil {
		t.Errorf("an argument was taken: %s", out)
	}
}
