package web

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// evil closes whatever it stands in and goes on as a script.
const evil = `"'></code></td></title></svg><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}` + "\u202e\x00"

// hostileScene says evil wherever a text comes from outside.
func hostileScene(t testing.TB) *State {
	st := criticalScene(t)
	st.Host, st.Version, st.BackupDir = evil, evil, evil
	st.Warnings = []string{evil}
	st.Commands = Commands{ConfigPath: evil, StopService: evil, StartService: evil}
	for i := range st.Status.Legs {
		l := &st.Status.Legs[i]
		l.Name, l.Level, l.Hint = evil+strconv.Itoa(i), health.LevelCritical, "atobackupd "+evil
		l.Message, l.Headline = evil, evil
	}
	st.Status.Conditions = []health.Condition{{Name: evil, Level: evil, Message: evil, Hint: evil, Headline: evil}}
	for i := range st.Targets {
		st.Targets[i].Name, st.Targets[i].LastError = evil+strconv.Itoa(i), evil
		st.Targets[i].Place = evil + strings.Repeat("x", 300)
	}
	for i := range st.Snapshots {
		s := &st.Snapshots[i]
		s.Path, s.Errors, s.Kind = evil, []string{evil}, evil
		s.Manifest.Validation.Warnings = []string{evil}
		s.Manifest.Artifacts[snapshot.DB] = snapshot.Artifact{Included: true, Method: evil, SourcePath: evil,
			Consistency: evil}
		s.Manifest.Files = []snapshot.File{{Path: evil, Type: snapshot.TypeSymlink, Target: evil, SHA256: evil}}
		s.Manifest.DB.Tables = map[string]int64{evil: 1}
	}
	for i := range st.Decision.Verdicts {
		st.Decision.Verdicts[i].Reasons = []string{evil}
		st.Decision.Verdicts[i].Slots = []retention.Slot{{Tier: evil, Label: evil}}
	}
	for i := range st.Alarms {
		st.Alarms[i].Leg, st.Alarms[i].Message, st.Alarms[i].Level = evil, evil, health.LevelCritical
	}
	for i := range st.Drills {
		st.Drills[i].Stamp, st.Drills[i].Source, st.Drills[i].Surprises = evil, evil, []string{evil}
	}
	for i := range st.Pushes {
		st.Pushes[i].Target = evil + "0"
	}
	st.Runs = append([]history.Run{{Job: evil, Kind: evil, StartedAt: st.Now, Outcome: history.Running}}, st.Runs...)
	st.Status.Running = []health.RunningStatus{{Job: evil, Kind: evil, Since: st.Now,
		Progress: &health.Progress{Step: evil}}}
	st.Next = []Upcoming{{evil, st.Now}}
	return st
}

// TestHostileTextStaysText makes every text that comes from outside an attack,
// and looks for its marks in the pages as they are sent. The browser's test
// opens the same pages.
func TestHostileTextStaysText(t *testing.T) {
	st := hostileScene(t)
	handler := New(&fakeSource{state: st}, Options{}).Handler()
	stamps := []string{string(st.Snapshots[0].Stamp), string(st.Snapshots[len(st.Snapshots)-3].Stamp)}
	paths := []string{"/", "/snapshots/" + stamps[0], "/snapshots/" + stamps[1],
		"/snapshots/%3Cscript%3Ealert(1)%3C%2Fscript%3E", "/nothing/%3Cscript%3E"}
	for _, path := range paths {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "localhost:8120"
		r.Header.Set("Accept", "text/html")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		body := w.Body.String()
		if slices.Contains(paths[:3], path) && (w.Code != http.StatusOK || strings.Count(body, "alert(1)") < 20) {
			t.Errorf("%s: status %d, and the attack is there %d times: nothing was tested", path, w.Code,
				strings.Count(body, "alert(1)"))
		}
		for _, mark := range []string{"<script>", "<img", "onerror=alert(2)>", `style="`, "javascript:", "\u202e",
			"\x00"} {
			if at := strings.Index(body, mark); at >= 0 {
				t.Errorf("%s: %q got through: …%s…", path, mark, body[max(0, at-80):min(len(body), at+80)])
			}
		}
		if got := strings.Count(body, "<script"); got > 1 {
			t.Errorf("%s: %d scripts", path, got)
		}
	}
}
