package daemon

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot"
)

// A command that was killed while the application was frozen left the marker:
// the daemon that runs beside it thaws, and so does whoever takes next.
func TestFrozenApplicationIsThawed(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if jobs := thawJobs(a); len(jobs) != 0 {
		t.Errorf("a job for what is never frozen: %v", jobs)
	}
	a.Config.Backup.ChromaMethod = "freeze"
	a.Config.Backup.ThawCommand = []string{"touch", h.path("thawed")}
	jobs := thawJobs(a)
	if len(jobs) != 1 {
		t.Fatalf("%d jobs", len(jobs))
	}
	freeze := func() {
		h.write("state/frozen.json", fmt.Sprintf(`{"thaw": ["touch", %q], "since": "2026-04-07T06:00:00Z", "pid": 1}`,
			h.path("forged")))
	}
	thawed := func() bool {
		_, marker := os.Lstat(h.path("state/frozen.json"))
		_, ran := os.Lstat(h.path("thawed"))
		_ = os.Remove(h.path("thawed"))
		return ran == nil && marker != nil
	}
	look := func() {
		t.Helper()
		if err := jobs[0].Run(t.Context(), scheduler.Slot{}); err != nil {
			t.Error(err)
		}
	}
	look() // there is nothing to do
	freeze()
	lock, err := a.Store().Lock(t.Context(), "taking a weekly snapshot", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	look()
	if thawed() {
		t.Error("it was thawed while somebody copies")
	}
	lock.Unlock()
	freeze()
	look()
	if !thawed() {
		t.Error("the daemon did not thaw it")
	}
	freeze()
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if !thawed() {
		t.Error("the next take did not thaw it")
	}
	if _, err := os.Lstat(h.path("forged")); err == nil {
		t.Error("a command of the marker was run")
	}
}
