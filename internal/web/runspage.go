package web

import (
	"net/http"
	"time"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
)

// runsView is the page of what was run: newest first, those under way on top.
type runsView struct {
	frame
	Runs []runView
}

// runView is one run as the page shows it.
type runView struct {
	history.Run
	Took  string // "" while it is under way
	Moved string // "" where nothing was measured
	Level string // "" for an outcome that is nobody's fault
}

// runsPage is GET /runs.
func (s *Server) runsPage(w http.ResponseWriter, r *http.Request) error {
	state, err := s.look(r.Context())
	if err != nil {
		return err
	}
	v := runsView{frame: newFrame(state, "Runs on "+state.Host)}
	for _, run := range state.Recent {
		v.Runs = append(v.Runs, newRunView(run))
	}
	return s.page(w, http.StatusOK, "runs", v)
}

func newRunView(run history.Run) runView {
	v := runView{Run: run}
	switch run.Outcome {
	case history.OK:
		v.Level = health.LevelOK
	case history.Failed:
		v.Level = health.LevelCritical
	case history.Running:
	default:
		v.Level = health.LevelUnknown
	}
	if !run.FinishedAt.IsZero() {
		v.Took = span(run.FinishedAt.Sub(run.StartedAt))
	}
	if run.Bytes > 0 {
		v.Moved = size(run.Bytes)
	}
	return v
}

// drillsView is the page of the rehearsed restores, newest first.
type drillsView struct {
	frame
	Drills []history.Drill
	Last   time.Time // zero for none
}

// drillsPage is GET /drills.
func (s *Server) drillsPage(w http.ResponseWriter, r *http.Request) error {
	state, err := s.look(r.Context())
	if err != nil {
		return err
	}
	v := drillsView{frame: newFrame(state, "Restore drills on "+state.Host), Drills: state.Drills}
	for _, d := range state.Drills {
		if d.Pass && d.StartedAt.After(v.Last) {
			v.Last = d.StartedAt
		}
	}
	return s.page(w, http.StatusOK, "drills", v)
}
