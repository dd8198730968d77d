package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// Levels of a leg and of the whole, worst last.
const (
	LevelOK       = "ok"
	LevelWarning  = "warning"
	LevelCritical = "critical"
	LevelUnknown  = "unknown"
)

// Status is the document of `status`.
type Status struct {
	Level     string          `json:"level"`
	Legs      []LegStatus     `json:"legs"`
	Snapshots SnapshotsStatus `json:"snapshots"`
	Targets   []TargetStatus  `json:"targets"`
	Alarms    []history.Alarm `json:"alarms"`
}

// LegStatus says how one leg stands.
type LegStatus struct {
	Name        string     `json:"name"`
	Level       string     `json:"level"`
	LastSuccess *time.Time `json:"last_success"`
	LastAttempt *time.Time `json:"last_attempt"`
	AgeS        *int64     `json:"age_s"` // of the last success
	Next        *time.Time `json:"next"`
	Message     string     `json:"message"`
}

// SnapshotsStatus sums the local snapshots up.
type SnapshotsStatus struct {
	Count      int            `json:"count"`
	Valid      int            `json:"valid"`
	Full       int            `json:"full"`
	Bytes      int64          `json:"bytes"`
	Newest     snapshot.Stamp `json:"newest"`      // the newest valid one; "" if there is none
	NewestFull snapshot.Stamp `json:"newest_full"` // the newest valid one with Chroma
}

// TargetStatus says how one target stands.
type TargetStatus struct {
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Snapshots int            `json:"snapshots"`
	Newest    snapshot.Stamp `json:"newest"`
	Behind    int            `json:"behind"` // valid local snapshots that it does not hold
}

// leg is what is configured of a leg: how old its last success may be.
type leg struct {
	name  string
	limit time.Duration
	job   string // whose next slot is shown
}

// Status tells how everything stands at now.
func (a *App) Status(ctx context.Context, now time.Time) (Status, error) {
	doc := Status{Level: LevelOK, Legs: []LegStatus{}, Targets: []TargetStatus{}, Alarms: []history.Alarm{}}
	list, _, err := a.snapshots(ctx, now)
	if err != nil {
		return doc, err
	}
	doc.Snapshots = sumUp(list)
	schedule, err := a.Schedule(ctx, now)
	if err != nil {
		return doc, err
	}
	next := make(map[string]time.Time)
	for _, job := range schedule.Jobs {
		if len(job.Next) > 0 {
			next[job.Job] = job.Next[0]
		}
	}
	recorded, err := a.history.Legs(ctx)
	a.record(err)
	byName := make(map[string]history.Leg)
	for _, l := range recorded {
		byName[l.Name] = l
	}
	for _, l := range a.legs() {
		status := judgeLeg(l, byName[l.name], now)
		if at, ok := next[l.job]; ok {
			status.Next = &at
		}
		doc.Legs = append(doc.Legs, status)
		doc.Level = worse(doc.Level, status.Level)
	}
	if doc.Targets, err = a.targetStatus(list); err != nil {
		return doc, err
	}
	if alarms, err := a.history.OpenAlarms(ctx); err == nil {
		doc.Alarms = append(doc.Alarms, alarms...)
	}
	return doc, nil
}

// legs are those that the configuration asks for.
func (a *App) legs() []leg {
	c := a.Config
	var legs []leg
	add := func(name string, limit time.Duration, job string, wanted bool) {
		if wanted && limit > 0 {
			legs = append(legs, leg{name, limit, job})
		}
	}
	add(legSnapshot, c.Alarms.Snapshot.Std(), "daily", c.Schedule.Daily != "" || c.Schedule.Weekly != "")
	add(legFull, c.Alarms.Full.Std(), "weekly", c.Schedule.Weekly != "")
	for _, t := range c.Offsite {
		add(legOffsite(t.Name), t.MaxAge.Std(), "", true)
	}
	add(legPrune, c.Alarms.Prune.Std(), "", c.Schedule.Daily != "" || c.Schedule.Weekly != "")
	add(legScrub, c.Alarms.Scrub.Std(), "scrub", c.Schedule.Scrub != "")
	return legs
}

// judgeLeg decides how a leg stands. One that was never tried is no alarm yet:
// its first slot has not come.
func judgeLeg(l leg, seen history.Leg, now time.Time) LegStatus {
	s := LegStatus{Name: l.name, Level: LevelOK}
	if !seen.LastAttempt.IsZero() {
		s.LastAttempt = &seen.LastAttempt
	}
	switch {
	case seen.LastSuccess.IsZero() && seen.LastAttempt.IsZero():
		s.Level, s.Message = LevelWarning, "it never ran"
		return s
	case seen.LastSuccess.IsZero():
		s.Level, s.Message = LevelCritical, "it never succeeded: "+seen.LastError
		return s
	}
	age := now.Sub(seen.LastSuccess)
	seconds := int64(age.Seconds())
	s.LastSuccess, s.AgeS = &seen.LastSuccess, &seconds
	switch {
	case age > l.limit:
		s.Level, s.Message = LevelCritical, fmt.Sprintf("its last success is %s old, more than %s", age.Round(time.Minute), l.limit)
	case seen.LastError != "":
		s.Level, s.Message = LevelWarning, seen.LastError
	}
	return s
}

func worse(a, b string) string {
	rank := map[string]int{LevelOK: 0, LevelWarning: 1, LevelCritical: 2, LevelUnknown: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

func sumUp(list []snapshot.Snapshot) SnapshotsStatus {
	var s SnapshotsStatus
	for _, snap := range list {
		s.Count++
		s.Bytes += snap.Bytes
		if !snap.IsValid() {
			continue
		}
		s.Valid++
		if snap.Kind.HoldsSlots() {
			s.Newest = snap.Stamp
		}
		if snap.Full {
			s.Full++
			s.NewestFull = snap.Stamp
		}
	}
	return s
}

func (a *App) targetStatus(list []snapshot.Snapshot) ([]TargetStatus, error) {
	statuses := []TargetStatus{}
	holders, err := a.offsiteHolders()
	if err != nil {
		return statuses, err
	}
	for _, t := range a.Config.Offsite {
		s := TargetStatus{Name: t.Name, Type: t.Type}
		for stamp, names := range holders {
			for _, name := range names {
				if name == t.Name {
					s.Snapshots++
					s.Newest = max(s.Newest, stamp)
				}
			}
		}
		for _, snap := range list {
			if snap.IsValid() && snap.Stamp > s.Newest {
				s.Behind++
			}
		}
		statuses = append(statuses, s)
	}
	return statuses, nil
}
