package web

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// scrape returns the metrics of a state as text.
func scrape(t *testing.T, state *State) string {
	t.Helper()
	w := serve(&fakeSource{state: state}, Options{}, fromHere(http.MethodGet, "/metrics", ""))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("status %d, %q: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	return w.Body.String()
}

// TestMetricsFollowTheConventions in every state.
func TestMetricsFollowTheConventions(t *testing.T) {
	for name, state := range map[string]*State{
		"good": bigScene(t), "warning": warningScene(t), "critical": criticalScene(t), "empty": emptyScene(t),
		"small": smallState(),
	} {
		text := scrape(t, state)
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		must(t, err)
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
		if strings.Count(text, "# TYPE atobackupd_") < 9 {
			t.Errorf("%s: there is not much to lint:\n%s", name, text)
		}
	}
}

// TestMetricsSayWhatIsThere looks for the lines that alerts are made of.
func TestMetricsSayWhatIsThere(t *testing.T) {
	text := scrape(t, criticalScene(t))
	for _, line := range []string{
		`atobackupd_look_success 1`,
		`atobackupd_level 2`,
		`atobackupd_leg_level{leg="snapshot"} 2`,
		`atobackupd_leg_level{leg="drill"} 0`,
		`atobackupd_leg_last_success_timestamp_seconds{leg="snapshot"} 1.7755344e+09`,
		`atobackupd_leg_max_age_seconds{leg="snapshot"} 93600`,
		`atobackupd_alarms_open{level="critical"} 3`,
		`atobackupd_alarms_open{level="warning"} 0`,
		`atobackupd_restore_pending 0`,
		`atobackupd_snapshots{kind="weekly",state="invalid"} 1`,
		`atobackupd_snapshot_newest_timestamp_seconds{content="bare"} 1.7755344e+09`,
		`atobackupd_offsite_behind_snapshots{target="laptop"} 2`,
		`atobackupd_offsite_lag_seconds{target="laptop"} 172800`,
		`atobackupd_offsite_lag_seconds{target="cupboard"} 0`,
		`atobackupd_drill_success 0`,
		`atobackupd_next_slot_timestamp_seconds{schedule="daily"} 1.7757936e+09`,
		`atobackupd_run_success{task="backup"} 1`,
		`atobackupd_backup_free_bytes 2.29780750336e+11`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, " ")
			t.Errorf("no line %s; there is:\n%s", line,
				strings.Join(regexp.MustCompile(regexp.QuoteMeta(name)+".*").FindAllString(text, -1), "\n"))
		}
	}
}

// TestMetricsDoNotGrow with what happens: stamps, errors and targets that are
// gone are in no label.
func TestMetricsDoNotGrow(t *testing.T) {
	few := criticalScene(t)
	many := criticalScene(t)
	for i := range 500 {
		s := sceneSnapshot(at(2027, 1, i, 4), i)
		s.Kind = snapshot.Kind("kind" + string(s.Stamp))
		many.Snapshots = append(many.Snapshots, s)
		many.Runs = append(many.Runs,
			history.Run{Job: "sync:" + string(s.Stamp), Outcome: history.Failed, Error: string(s.Stamp)})
		many.Pushes = append(many.Pushes, history.Push{Target: "gone" + string(s.Stamp)})
	}
	before, after := strings.Count(scrape(t, few), "\natobackupd_"), strings.Count(scrape(t, many), "\natobackupd_")
	if after > before+3 {
		t.Errorf("%d series became %d", before, after)
	}
	if text := scrape(t, hostileScene(t)); !strings.Contains(text, `alert(1)`) || strings.Contains(text, "\n<script>") {
		t.Error("hostile labels are not there, or not escaped")
	}
}

// TestFailedLookIsAMetric because a scrape that fails says less.
func TestFailedLookIsAMetric(t *testing.T) {
	w := serve(&fakeSource{lookErr: errLocked}, Options{}, fromHere(http.MethodGet, "/metrics", ""))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "\natobackupd_look_success 0\n") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// TestRequestsAreCounted by what was asked, not by how it was spelt.
func TestRequestsAreCounted(t *testing.T) {
	server := New(&fakeSource{state: smallState()}, Options{})
	handler := server.Handler()
	for _, path := range []string{"/snapshots/20260407T060000Z", "/snapshots/20200101T000000Z", "/snapshots/x",
		"/nothing/1", "/nothing/2"} {
		handler.ServeHTTP(httptest.NewRecorder(), fromHere(http.MethodGet, path, ""))
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, fromHere(http.MethodGet, "/metrics", ""))
	for _, line := range []string{
		`atobackupd_http_requests_total{code="200",endpoint="snapshot"} 1`,
		`atobackupd_http_requests_total{code="404",endpoint="snapshot"} 1`,
		`atobackupd_http_requests_total{code="400",endpoint="snapshot"} 1`,
		`atobackupd_http_requests_total{code="404",endpoint="unknown"} 2`,
	} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("no line %s", line)
		}
	}
}
