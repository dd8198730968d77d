package chroma

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// FuzzMarker leaves an arbitrary freeze marker: whatever it says, only the
// configured command is run.
func FuzzMarker(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "[]", `{"pid": 1, "since": "2026-04-07T06:00:00Z"}`, `{"pid": -1}`, `{"since": 7}`,
		`{"thaw": ["touch", "/tmp/hacked"], "command": ["touch", "/tmp/hacked"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		marker, ran := filepath.Join(dir, "frozen.json"), filepath.Join(dir, "ran")
		if err := os.WriteFile(marker, text, 0o600); err != nil {
			t.Fatal(err)
		}
		thawed, err := ThawLeftover(marker, []string{"/usr/bin/touch", ran}, tree.Trusted(""))
		if _, statErr := os.Lstat(ran); thawed != (statErr == nil) || thawed == (err != nil) {
			t.Errorf("thawed %v, %v; the command ran: %v", thawed, err, statErr == nil)
		}
	})
}
