//go:build rig

package web

import (
	"os/exec"
	"strings"
	"testing"
)

// promtool runs Prometheus' own checker.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("this test needs promtool: apt-get install prometheus")
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRigAlertRules(t *testing.T) {
	promtool(t, "", "check", "rules", rulesFile)
	promtool(t, "", "test", "rules", rulesTestFile)
}

func TestRigMetrics(t *testing.T) {
	promtool(t, scrape(t, criticalScene(t)), "check", "metrics")
	promtool(t, scrape(t, emptyScene(t)), "check", "metrics")
}
