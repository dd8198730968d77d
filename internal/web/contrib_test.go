package web

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	rulesFile     = "../../contrib/prometheus/atobackupd.rules.yml"
	rulesTestFile = "../../contrib/prometheus/atobackupd.rules.test.yml"
	grafanaFile   = "../../contrib/grafana/atobackupd.json"
)

// TestContribNamesWhatExists keeps the alert rules and the Grafana dashboard
// from asking for metrics, labels or values that there are none of: Prometheus
// would say nothing, and neither would the alert.
func TestContribNamesWhatExists(t *testing.T) {
	text := scrape(t, criticalScene(t)) + scrape(t, bigScene(t)) +
		"\natobackupd_http_requests_total{code=\"\",endpoint=\"\"} 1\n"
	selector := regexp.MustCompile(`\b(atobackupd_[a-z_]+)(?:\{([^}]*)\})?`)
	for _, file := range []string{rulesFile, rulesTestFile, grafanaFile} {
		data, err := os.ReadFile(file)
		must(t, err)
		found := selector.FindAllStringSubmatch(strings.ReplaceAll(string(data), `\"`, `"`), -1)
		for _, match := range found {
			lines := regexp.MustCompile(`(?m)^`+match[1]+`(\{[^}]*\})? `).FindAllString(text, -1)
			if len(lines) == 0 {
				t.Errorf("%s: there is no metric %s", file, match[1])
				continue
			}
			for _, label := range regexp.MustCompile(`([a-z]+)(=~?|!=)"`).FindAllStringSubmatch(match[2], -1) {
				if label[1] != "instance" && !strings.Contains(lines[0], label[1]+`="`) {
					t.Errorf("%s: %s has no label %s", file, match[1], label[1])
				}
			}
		}
		if len(found) < 10 {
			t.Errorf("%s: only %d metrics were found in it", file, len(found))
		}
	}
}

// TestGrafanaDashboardIsWhole checks what Grafana would not load or would show
// twice.
func TestGrafanaDashboardIsWhole(t *testing.T) {
	data, err := os.ReadFile(grafanaFile)
	must(t, err)
	var dashboard struct {
		UID, Title string
		Panels     []struct {
			ID      int
			Title   string
			Targets []struct{ Expr, RefID string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	must(t, json.Unmarshal(data, &dashboard))
	if dashboard.UID != "atobackupd" || len(dashboard.Panels) < 10 {
		t.Fatalf("%q with %d panels", dashboard.UID, len(dashboard.Panels))
	}
	var ids []int
	for _, p := range dashboard.Panels {
		if slices.Contains(ids, p.ID) || p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 ||
			p.GridPos.W*p.GridPos.H == 0 {
			t.Errorf("panel %d, %q", p.ID, p.Title)
		}
		ids = append(ids, p.ID)
		for _, target := range p.Targets {
			if target.RefID == "" || strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") {
				t.Errorf("%s: %s", p.Title, target.Expr)
			}
		}
	}
}
