package web

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// How much of the past the page lists.
const (
	shownDrills = 5
	shownAlarms = 12
)

// frame is what every page has.
type frame struct {
	Title   string
	Host    string
	Version string
	Zone    string
	Level   string
	clock   clock
}

func newFrame(state *State, title string) frame {
	c := newClock(state)
	return frame{Title: title, Host: state.Host, Version: state.Version, Zone: c.zoneName(), Level: state.Status.Level,
		clock: c}
}

// Time is a time in the ways in which a template shows it.
func (f frame) Time(t time.Time) moment { return f.clock.moment(t) }

// Now is when the page was made.
func (f frame) Now() moment { return f.clock.moment(f.clock.now) }

// dashboardView is what the dashboard shows.
type dashboardView struct {
	frame
	Verdict   verdict
	Legs      []legView
	Months    []month
	Targets   []targetView
	Charts    []chart
	Rows      []snapshotRow
	Total     string
	Shared    bool // some share files
	BackupDir string
	Free      string
	Warnings  []string
	Next      []Upcoming
	Running   []health.RunningStatus
	Drills    []history.Drill
	Open      []history.Alarm
	Closed    []history.Alarm
	state     *State
}

// dashboard is GET /.
func (s *Server) dashboard(w http.ResponseWriter, r *http.Request) error {
	state, err := s.look(r.Context())
	if err != nil {
		return err
	}
	return s.page(w, http.StatusOK, "dashboard", newDashboard(state))
}

func newDashboard(state *State) *dashboardView {
	v := &dashboardView{
		frame: newFrame(state, "Backups of "+state.Host), Verdict: newVerdict(state),
		BackupDir: state.BackupDir, Warnings: state.Warnings, Next: state.Next,
		Running: state.Status.Running,
		Drills:  state.Drills[:min(shownDrills, len(state.Drills))], state: state,
	}
	for _, leg := range state.Status.Legs {
		v.Legs = append(v.Legs, newLegView(leg, state.Now))
	}
	for _, t := range state.Targets {
		v.Targets = append(v.Targets, newTargetView(t, state))
	}
	for _, alarm := range state.Alarms {
		if alarm.ResolvedAt.IsZero() {
			v.Open = append(v.Open, alarm)
		} else if len(v.Closed) < shownAlarms {
			v.Closed = append(v.Closed, alarm)
		}
	}
	if state.FreeBytes >= 0 {
		v.Free = size(state.FreeBytes)
	}
	v.rows()
	v.Months = v.calendar()
	v.Charts = v.charts()
	return v
}

// legView is one leg with how much of its patience is used up.
type legView struct {
	Name, Title, Level, Message    string
	Off                            bool      // nobody watches it, so that it is not called well
	LastSuccess, LastAttempt, Next time.Time // zero for none
	Age                            string
	Limit                          string
	Used                           float64 // per cent of the limit, at most 100
}

func newLegView(leg health.Leg, now time.Time) legView {
	v := legView{Name: leg.Name, Title: legTitle(leg.Name), Level: leg.Level, Message: leg.Message,
		LastSuccess: orZero(leg.LastSuccess), LastAttempt: orZero(leg.LastAttempt), Next: orZero(leg.Next)}
	v.Off = !leg.Watched && leg.Level == health.LevelOK
	if leg.Watched && leg.Limit > 0 {
		v.Limit = span(leg.Limit)
	}
	if v.LastSuccess.IsZero() {
		return v
	}
	age := max(0, now.Sub(v.LastSuccess))
	v.Age = span(age)
	if v.Limit != "" {
		v.Used = round(min(100, 100*float64(age)/float64(leg.Limit)))
	}
	return v
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// targetView is one target with how far it is behind.
type targetView struct {
	Target
	NewestAt time.Time
	Lag      string
	Debt     string
	Push     *history.Push // the last one
}

// PushTook says how long the last push took.
func (t targetView) PushTook() string { return span(t.Push.Duration) }

// PushSize says how much it sent.
func (t targetView) PushSize() string { return size(t.Push.Bytes) }

func newTargetView(t Target, state *State) targetView {
	v := targetView{Target: t, Lag: "nothing is there yet"}
	if newest := t.Newest(); newest != "" {
		v.NewestAt = newest.Time()
		v.Lag = "none: it holds the newest"
		if here := state.newest(); here != nil && here.Stamp > newest {
			v.Lag = span(here.Stamp.Time().Sub(v.NewestAt)) + " behind this machine"
		}
	}
	if t.Away {
		v.Lag = "its vault is not there"
	}
	if t.Behind > 0 {
		v.Debt = fmt.Sprintf("%s to send (%s here)", health.Counted(t.Behind, "snapshot"), size(t.BehindBytes))
	}
	for i := range state.Pushes {
		if state.Pushes[i].Target == t.Name {
			v.Push = &state.Pushes[i]
			break
		}
	}
	return v
}

// snapshotRow is one snapshot of the table, newest first.
type snapshotRow struct {
	snapshot.Snapshot
	At       time.Time
	Size     string
	Validity string
	Slots    []retention.Slot
	Leaves   bool // the next prune deletes it
	Offsite  []string
}

func (v *dashboardView) rows() {
	holders := v.state.holders()
	verdicts := make(map[string]retention.Verdict)
	for _, verdict := range v.state.Decision.Verdicts {
		verdicts[verdict.Stamp] = verdict
	}
	total := int64(0)
	for _, s := range slices.Backward(v.state.Snapshots) {
		verdict, judged := verdicts[string(s.Stamp)]
		v.Rows = append(v.Rows, snapshotRow{
			Snapshot: s, At: s.Stamp.Time(), Size: size(s.Bytes), Validity: validity(s),
			Slots: verdict.Slots, Leaves: judged && !verdict.Keep, Offsite: holders[s.Stamp],
		})
		total += s.Bytes
		v.Shared = v.Shared || s.BytesExclusive < s.Bytes
	}
	v.Total = size(total)
}

// charts draws what was measured.
func (v *dashboardView) charts() []chart {
	bare, full := series{Name: "database and registry", Class: "a"}, series{Name: "with the vector store", Class: "b"}
	bareTime, fullTime := bare, full
	for _, take := range v.state.Takes {
		at := take.Stamp.Time()
		bytes := sample{at, float64(take.Bytes), fmt.Sprintf("%s: %s", v.clock.words(at), size(take.Bytes))}
		took := sample{at, take.Duration.Seconds(), fmt.Sprintf("%s: %s", v.clock.words(at), span(take.Duration))}
		if take.Full {
			full.samples, fullTime.samples = append(full.samples, bytes), append(fullTime.samples, took)
		} else {
			bare.samples, bareTime.samples = append(bare.samples, bytes), append(bareTime.samples, took)
		}
	}
	return []chart{
		newChart("sizes", "Size of a snapshot", v.clock, linear(byteUnits), bare, full),
		newChart("durations", "Time to take a snapshot", v.clock, linear(timeUnits), bareTime, fullTime),
		newChart("pushes", "Sent off-site per snapshot (log scale)", v.clock, byTens(byteUnits), v.pushSeries()...),
	}
}

func (v *dashboardView) pushSeries() []series {
	var list []series
	classes := []string{"a", "b", "c", "d"}
	for i, t := range v.state.Targets {
		s := series{Name: t.Name, Class: classes[i%len(classes)]}
		for _, push := range slices.Backward(v.state.Pushes) {
			if push.Target == t.Name {
				s.samples = append(s.samples,
					sample{push.At, float64(push.Bytes),
						fmt.Sprintf("%s: %s", v.clock.words(push.At), size(push.Bytes))})
			}
		}
		list = append(list, s)
	}
	return list
}
