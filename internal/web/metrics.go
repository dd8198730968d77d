package web

import (
	"cmp"
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// scrapeTimeout bounds one look at everything; Prometheus gives up after 10 s
// by default, and a look that takes longer is of no use to it.
const scrapeTimeout = 30 * time.Second

// newRegistry makes the metrics. Labels hold what the configuration or this
// program names, never a stamp, a path or an error, so that the number of
// series does not grow with time.
func newRegistry(s *Server) (*prometheus.Registry, *prometheus.CounterVec) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atobackupd_http_requests_total", Help: "HTTP requests that were answered.",
	}, []string{"endpoint", "code"})
	r := prometheus.NewRegistry()
	r.MustRegister(requests, stateCollector{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r, requests
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("atobackupd_"+name, help, labels, nil)
}

var (
	metricBuild  = describe("build_info", "Always 1; the version is in the label.", "version", "goversion")
	metricLookOK = describe("look_success",
		"1 when the state could be read for this scrape, 0 when it could not and most metrics are missing.")
	metricLevel     = describe("level", "How everything stands: 0 ok, 1 warning, 2 critical, 3 unknown.")
	metricCondition = describe("condition", "How a condition stands: 0 it does not hold, 1 warning, 2 critical.",
		"condition")
	metricBeat   = describe("scheduler_beat_timestamp_seconds", "When the scheduler's loop was last seen at work.")
	metricFullIn = describe("backup_full_in_seconds",
		"In how long the disk of the backup directory is full, as it grows now.")
	metricWatched  = describe("leg_watched", "1 while a leg is watched, 0 where its limit is off.", "leg")
	metricPending  = describe("restore_pending", "1 while an interrupted restore waits to be resumed or aborted.")
	metricFree     = describe("backup_free_bytes", "Free space on the disk of the backup directory.")
	metricAlarms   = describe("alarms_open", "Open alarms.", "level")
	metricNext     = describe("next_slot_timestamp_seconds", "When the schedule runs a job next.", "schedule")
	metricPromised = describe("leg_max_age_seconds", "How old the last success of a leg may be.", "leg")
	metricLegLevel = describe("leg_level", "How a leg stands: 0 ok, 1 warning, 2 critical, 3 unknown.", "leg")
	metricLegOK    = describe("leg_last_success_timestamp_seconds", "When a leg last went well.", "leg")
	metricLegTried = describe("leg_last_attempt_timestamp_seconds", "When a leg was last tried.", "leg")

	metricSnapshots = describe("snapshots", "Snapshots on this machine.", "kind", "state")
	metricBytes     = describe("snapshots_bytes",
		"Size of all snapshots on this machine, counting a shared file in each that holds it.")
	metricNewest = describe("snapshot_newest_timestamp_seconds",
		"When the newest valid snapshot was begun; content is full for one with Chroma.", "content")
	metricSize     = describe("snapshot_size_bytes", "Size of the newest valid snapshot.", "content")
	metricDuration = describe("snapshot_duration_seconds", "How long the newest take took that went well.", "content")
	metricRunTime  = describe("run_duration_seconds", "How long the last run of a task took.", "task")
	metricRunOK    = describe("run_success", "1 when the last run of a task went well.", "task")

	metricHeld      = describe("offsite_snapshots", "Snapshots that a target held when it was last seen.", "target")
	metricOffNewest = describe("offsite_newest_timestamp_seconds",
		"When the newest snapshot was begun that a target holds.", "target")
	metricLag = describe("offsite_lag_seconds",
		"By how much the newest snapshot of a target is older than the newest valid one here.", "target")
	metricBehind = describe("offsite_behind_snapshots",
		"Valid local snapshots that a target should get and does not hold.", "target")
	metricDebt = describe("offsite_debt_bytes",
		"Size here of the snapshots that a target should get and does not hold; what is sent is less.", "target")
	metricPushed   = describe("offsite_push_bytes", "Bytes that the last push to a target sent.", "target")
	metricPushTime = describe("offsite_push_duration_seconds", "How long the last push to a target took.", "target")
	metricPushAt   = describe("offsite_push_timestamp_seconds", "When the last push to a target was complete.",
		"target")

	metricDrillAt   = describe("drill_timestamp_seconds", "When the last drill began.")
	metricDrillPass = describe("drill_success", "1 when the last drill passed.")
	metricDrillTime = describe("drill_duration_seconds", "How long the last drill took.")
)

// levelNumber is a level as a metric has it: that of Nagios.
func levelNumber(level string) float64 { return float64(health.Number(level)) }

// stateCollector reads the state when it is scraped.
type stateCollector struct{ server *Server }

// Describe promises nothing, because what there is depends on the state.
func (c stateCollector) Describe(chan<- *prometheus.Desc) {}

// Collect turns one look into metrics.
func (c stateCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(c.server.life, scrapeTimeout)
	defer cancel()
	g := gauges{out}
	state, err := c.server.look(ctx)
	g.put(metricLookOK, truth(err == nil))
	if err != nil {
		c.server.report(err)
		return
	}
	g.put(metricBuild, 1, state.Version, runtime.Version())
	g.whole(state)
	g.snapshots(state)
	g.runs(state)
	g.targets(state)
	if len(state.Drills) > 0 {
		last := state.Drills[0]
		g.at(metricDrillAt, last.StartedAt)
		g.put(metricDrillPass, truth(last.Pass))
		g.put(metricDrillTime, last.Duration.Seconds())
	}
}

// gauges sends metrics off.
type gauges struct{ out chan<- prometheus.Metric }

// put makes labels valid UTF-8, which the library demands by a panic.
func (g gauges) put(d *prometheus.Desc, value float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
	}
	g.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// at leaves a metric out whose time never came: 0 would be 1970.
func (g gauges) at(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		g.put(d, float64(t.UnixMilli())/1000, labels...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (g gauges) whole(state *State) {
	report := state.Status.Report
	g.put(metricLevel, levelNumber(report.Level))
	g.conditions(report)
	if state.FreeBytes >= 0 {
		g.put(metricFree, float64(state.FreeBytes))
	}
	if space := state.Status.Space; space != nil && space.FullInDays != nil {
		g.put(metricFullIn, float64(*space.FullInDays)*24*time.Hour.Seconds())
	}
	g.at(metricBeat, state.Status.Daemon.Beat)
	open := map[string]float64{health.LevelWarning: 0, health.LevelCritical: 0}
	for _, alarm := range state.Alarms {
		if alarm.ResolvedAt.IsZero() {
			open[alarm.Level]++
		}
	}
	for level, n := range open {
		g.put(metricAlarms, n, level)
	}
	for _, slot := range state.Next {
		g.at(metricNext, slot.At, slot.Job)
	}
	for _, leg := range report.Legs {
		g.put(metricLegLevel, levelNumber(leg.Level), leg.Name)
		g.put(metricWatched, truth(leg.Watched), leg.Name)
		if leg.Watched {
			g.put(metricPromised, leg.Limit.Seconds(), leg.Name)
		}
		if leg.LastSuccess != nil {
			g.at(metricLegOK, *leg.LastSuccess, leg.Name)
		}
		if leg.LastAttempt != nil {
			g.at(metricLegTried, *leg.LastAttempt, leg.Name)
		}
	}
}

// conditions are told by name, also those that do not hold: an alert on a series
// that is not there never fires.
func (g gauges) conditions(report health.Report) {
	level := make(map[string]string)
	for _, name := range health.Conditions {
		level[name] = health.LevelOK
	}
	for _, c := range report.Conditions {
		level[c.Name] = health.Worse(cmp.Or(level[c.Name], health.LevelOK), c.Level)
	}
	for name, l := range level {
		g.put(metricCondition, levelNumber(l), name)
	}
	g.put(metricPending, truth(level[health.ConditionRestorePending] != health.LevelOK))
}

// Labels of content: what a snapshot holds.
const (
	contentBare = "bare" // database and registry
	contentFull = "full" // and Chroma
)

func content(full bool) string {
	if full {
		return contentFull
	}
	return contentBare
}

func (g gauges) snapshots(state *State) {
	type group struct{ kind, state string }
	count := make(map[group]float64)
	for _, kind := range snapshot.Kinds() {
		for _, state := range []string{"valid", "invalid", "unchecked"} {
			count[group{string(kind), state}] = 0
		}
	}
	bytes := int64(0)
	newest := make(map[string]snapshot.Snapshot)
	for _, s := range state.Snapshots {
		bytes += s.Bytes
		in := group{string(s.Kind), validity(s)}
		if _, known := count[in]; !known {
			in.kind = "other" // a manifest may say anything
		}
		count[in]++
		if s.Counts(state.Now) {
			newest[content(s.Full)] = s
		}
	}
	for in, n := range count {
		g.put(metricSnapshots, n, in.kind, in.state)
	}
	g.put(metricBytes, float64(bytes))
	for what, s := range newest {
		g.at(metricNewest, s.Stamp.Time(), what)
		g.put(metricSize, float64(s.Bytes), what)
	}
	last := make(map[string]Take)
	for _, take := range state.Takes {
		last[content(take.Full)] = take
	}
	for what, take := range last {
		g.put(metricDuration, take.Duration.Seconds(), what)
	}
}

// validity names what is known of a snapshot.
func validity(s snapshot.Snapshot) string {
	switch {
	case s.Valid == nil:
		return "unchecked"
	case *s.Valid:
		return "valid"
	}
	return "invalid"
}

// runs tells of the last run of each task that still exists: the history may
// remember targets that are gone.
func (g gauges) runs(state *State) {
	wanted := map[string]bool{"backup": true, "prune": true, "scrub": true, "drill": true, "restore": true}
	for _, t := range state.Targets {
		wanted["sync:"+t.Name] = true
	}
	for _, run := range state.Runs {
		if !wanted[run.Job] || run.Outcome == history.Running {
			continue
		}
		wanted[run.Job] = false // the newest came first
		g.put(metricRunOK, truth(run.Outcome == history.OK), run.Job)
		g.put(metricRunTime, run.FinishedAt.Sub(run.StartedAt).Seconds(), run.Job)
	}
}

func (g gauges) targets(state *State) {
	here := state.newest()
	for _, t := range state.Targets {
		g.put(metricHeld, float64(len(t.Stamps)), t.Name)
		g.put(metricBehind, float64(t.Behind), t.Name)
		g.put(metricDebt, float64(t.BehindBytes), t.Name)
		if there := t.Newest(); there != "" {
			g.at(metricOffNewest, there.Time(), t.Name)
			if here != nil {
				g.put(metricLag, max(0, here.Stamp.Time().Sub(there.Time()).Seconds()), t.Name)
			}
		}
		for _, push := range state.Pushes {
			if push.Target == t.Name {
				g.put(metricPushed, float64(push.Bytes), t.Name)
				g.put(metricPushTime, push.Duration.Seconds(), t.Name)
				g.at(metricPushAt, push.At, t.Name)
				break
			}
		}
	}
}

// newest returns the newest snapshot that counts; nil for none.
func (st *State) newest() *snapshot.Snapshot { return snapshot.Newest(st.Snapshots, st.Now, false) }
