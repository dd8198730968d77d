package restore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// FuzzJournal leaves an arbitrary journal: it holds snapshots back or is none, and
// one that is believed names nothing but workspaces of its own stamp.
func FuzzJournal(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "[]", `{"schema": 1}`, `{"schema": 2, "phase": "swapping", "targets": [null]}`,
		`{"schema": 2, "stamp": "20260407T060000Z", "phase": "aborted", "workspaces": ["/any", "relative"]}`,
		`{"schema": 2, "stamp": "20260407T060000Z", "targets": [{"artifact": "db", "dir": "/srv/db",
			"work": "/srv/db/.atobackupd-restore-20260407T060000Z/db", "entries": [{"name": "../../etc/passwd"}]}]}`,
		`{"schema": 1, "stamp": "x", "targets": [{"dir": "", "work": "", "entries": null}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := Place{StateDir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(p.StateDir, JournalFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.RefusePending(); failure.KindOf(err) != failure.Refused {
			t.Errorf("it holds nothing back: %v", err)
		}
		j, err := p.Pending()
		if err != nil {
			return
		}
		defer j.close()
		if j.believed(p) != nil {
			return
		}
		for _, work := range j.Workspaces {
			if filepath.Base(work) != workName(j.Stamp) {
				t.Errorf("believed with the workspace %q", work)
			}
		}
		for _, set := range j.Sets {
			for _, e := range set.Entries {
				if !filepath.IsLocal(e.Name) {
					t.Errorf("believed with the name %q", e.Name)
				}
			}
		}
	})
}
