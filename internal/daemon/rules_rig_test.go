//go:build rig

package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/internal/web"
	"github.com/atocore/atobackupd/snapshot"
)

const rulesFile = "../../contrib/prometheus/atobackupd.rules.yml"

// TestRigEveryRuleFires has Prometheus' own engine evaluate the alert rules over
// the series that the program exports in a state in which each must fire, and in
// one in which none may. Nothing is made up but that a scrape reached it.
func TestRigEveryRuleFires(t *testing.T) {
	rules := regexp.MustCompile(`(?m)^\s+- alert: (\w+)$`).FindAllStringSubmatch(readText(t, rulesFile), -1)
	fires := map[string]struct {
		make   func(w *world)
		labels map[string]string // what tells the alert that must fire from its like
		up     string
	}{
		"AtobackupdDown":       {func(*world) {}, nil, "0"},
		"AtobackupdAbsent":     {func(*world) {}, nil, ""},
		"AtobackupdCannotLook": {func(w *world) { w.unreadable() }, nil, "1"},
		"AtobackupdLegStale": {func(w *world) { w.pass(27 * hour) }, map[string]string{"leg": "snapshot"},
			"1"},
		"AtobackupdLegCritical": {func(w *world) { w.pass(27 * hour) }, map[string]string{"leg": "snapshot"},
			"1"},
		"AtobackupdLegWarning": {stateNamed(t, "nothing was drilled for a hundred days"),
			map[string]string{"leg": "drill"}, "1"},
		"AtobackupdNoValidSnapshot": {func(w *world) { w.removeAll("backups/snapshots/*") }, nil, "1"},
		"AtobackupdInvalidSnapshot": {func(w *world) { w.flipDB(); w.mustFail(w.scrub()) }, nil, "1"},
		"AtobackupdDrillFailed":     {stateNamed(t, "a drill's question is answered with no"), nil, "1"},
		"AtobackupdRestorePending":  {func(w *world) { w.journal(true) }, nil, "1"},
		"AtobackupdConditionCritical": {func(w *world) {
			w.flipDB()
			w.mustFail(w.scrub())
		}, map[string]string{"condition": "damaged"}, "1"},
		"AtobackupdConditionWarning": {func(w *world) { w.foreign("20400101T000000Z", true) },
			map[string]string{"condition": "clock"}, "1"},
		"AtobackupdDiskFillsUp": {stateNamed(t, "the next snapshot does not fit"),
			map[string]string{"condition": "space"}, "1"},
		"AtobackupdLegNotWatched": {func(w *world) {
			stateNamed(t, "a leg that is late is turned off")(w)
			w.turnOff()
		}, map[string]string{"leg": "snapshot"}, "1"},
		"AtobackupdScheduleStopped": {func(w *world) { w.hangs = true; w.pass(20 * time.Minute) }, nil, "1"},
	}
	for _, rule := range rules {
		name := rule[1]
		f, known := fires[name]
		if !known {
			t.Errorf("no state is known in which %s fires", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			series := exported(t, f.make)
			if out := firing(t, name, series, f.up); out == "" {
				t.Errorf("it does not fire over %s", series)
			} else {
				for label, value := range f.labels {
					if !strings.Contains(out, fmt.Sprintf("%s=%q", label, value)) {
						t.Errorf("it fires for others: %s", out)
					}
				}
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		series := exported(t, func(*world) {})
		for _, rule := range rules {
			if out := firing(t, rule[1], series, "1"); out != "" {
				t.Errorf("all is well and %s fires: %s", rule[1], out)
			}
		}
	})
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func stateNamed(t *testing.T, name string) func(w *world) {
	t.Helper()
	i := slices.IndexFunc(states, func(s state) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("there is no state %q", name)
	}
	return states[i].make
}

// turnOff does what the end of a state does.
func (w *world) turnOff() {
	i := slices.IndexFunc(states, func(s state) bool { return s.name == "a leg that is late is turned off" })
	states[i].end(w)
}

// unreadable makes the record of what happened one that cannot be opened.
func (w *world) unreadable() {
	w.t.Helper()
	w.must(os.Rename(w.path("state/history.db"), w.path("state/away")))
	w.must(os.Symlink("history.db", w.path("state/history.db")))
	w.broken = true
}

// exported returns the series that a daemon exports in a state, at the moment in
// which Prometheus asks, 27 hours after the beginning of its time.
func exported(t *testing.T, make func(w *world)) (series string) {
	t.Helper()
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		w.t = t
		w.wake()
		defer func() { w.sleepDaemon() }()
		w.take(snapshot.Weekly)
		w.ship()
		w.prune()
		w.must(w.scrub())
		w.must(w.drill())
		w.must(w.verify())
		make(w)
		server := web.New(httpSource{w.d}, web.Options{TokenFile: func() string { return "" }, Report: func(err error) {
			if !w.broken {
				t.Error(err)
			}
		}})
		now := float64(time.Now().UnixMilli()) / 1000
		metric := regexp.MustCompile(`(?m)^(atobackupd_\w+)(\{[^}]*\})? (\S+)$`)
		for _, match := range metric.FindAllStringSubmatch(w.get(server, "/metrics"), -1) {
			value, err := strconv.ParseFloat(match[3], 64)
			w.must(err)
			if strings.HasSuffix(match[1], "_timestamp_seconds") {
				value += 27*hour.Seconds() - now
			}
			labels := strings.TrimPrefix(match[2], "{")
			series += fmt.Sprintf("      - series: '%s{instance=\"dalidou\"%s'\n        values: '%s+0x324'\n", match[1],
				map[bool]string{true: "}", false: ", " + labels}[labels == ""], strconv.FormatFloat(value, 'f', -1, 64))
		}
	})
	return series
}

// firing returns the alerts of a rule that fire over the series; "" when none
// does. The scrape itself is up, down or missing.
func firing(t *testing.T, rule, series, up string) string {
	t.Helper()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if up != "" {
		series += "      - series: 'up{job=\"atobackupd\", instance=\"dalidou\"}'\n        values: '" + up + "+0x324'\n"
	}
	// An alert that fires although none is expected is named with its labels.
	file := filepath.Join(t.TempDir(), "test.yml")
	text := "rule_files: [" + rules + "]\nevaluation_interval: 5m\ntests:\n  - interval: 5m\n" +
		"    input_series:\n" + series +
		"    alert_rule_test:\n      - {eval_time: 27h, alertname: " + rule + ", exp_alerts: []}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput()
	if err == nil {
		return ""
	}
	if !strings.Contains(string(out), "alertname") {
		t.Fatalf("promtool: %v: %s", err, out)
	}
	return string(out)
}
