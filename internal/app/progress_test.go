package app

import (
	"os"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
)

// How far a run is, is found by its number, also beside what a killed run of the same
// job has left; of a run that has ended nothing is.
func TestProgressOfRun(t *testing.T) {
	a := &App{Config: &config.Config{StateDir: t.TempDir()}, process: newProcess()}
	told := 0
	a.Options.Progress = func(string, int64, int64) { told++ }
	if err := os.WriteFile(a.progressPath("backup"), []byte(`{"run":6,"step":"db","done":1,"total":2}`), 0o400); err != nil {
		t.Fatal(err)
	}
	if p := a.progressOfRun("backup", 6); p == nil || p.Step != "db" || p.Done != 1 || p.Total != 2 {
		t.Errorf("run 6: %+v", p)
	}
	stop := a.trackProgress("backup", 7)
	if p := a.progressOfRun("backup", 7); p != nil {
		t.Errorf("run 7, before a word of it: %+v", p)
	}
	a.progressOf("backup")("chroma", 3, 4)
	a.progressOf("backup")("db", 1, 9) // beside it: the step that was heard of first is stuck to
	a.progressOf("sync:laptop")("laptop push", 1, 2)
	if p := a.progressOfRun("backup", 7); p == nil || p.Step != "chroma" || p.Done != 3 || p.At.IsZero() {
		t.Errorf("run 7: %+v", p)
	}
	if p := a.progressOfRun("sync:laptop", 0); p != nil {
		t.Errorf("a job that nobody tracks: %+v", p)
	}
	stop()
	if p := a.progressOfRun("backup", 7); p != nil || told != 3 {
		t.Errorf("after its end: %+v, %d told", p, told)
	}
}
