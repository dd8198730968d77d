package health

import (
	"encoding/json"
	"time"
)

// Legs that are not about a target.
const (
	LegSnapshot = "snapshot"
	LegFull     = "full"
	LegPrune    = "prune"
	LegScrub    = "scrub"
	LegDrill    = "drill"
)

func LegOffsite(target string) string { return "offsite:" + target }

// Levels of a leg and of the whole, worst last.
const (
	LevelOK       = "ok"
	LevelWarning  = "warning"
	LevelCritical = "critical"
	LevelUnknown  = "unknown"
)

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

// RunDetail is what a run's record says beyond its columns.
type RunDetail struct {
	Failure string    `json:"failure,omitempty"` // what kind of failure, as stateOf names it, or "locked", "usage", …
	Daemon  bool      `json:"daemon,omitempty"`  // the daemon ran it, and not a person
	Full    bool      `json:"full,omitempty"`    // it was to hold Chroma
	RetryAt time.Time `json:"retry_at,omitzero"` // it failed and is started again by itself
	Free    int64     `json:"free,omitempty"`    // bytes on the disk of the snapshots, after a prune
}

func DetailOf(run Run) (d RunDetail) {
	_ = json.Unmarshal(run.Detail, &d) // none, or a stranger's: then nothing more is known
	return d
}

// Conclusive tells whether a run that failed says something about the leg.
// One that found its target away, was cut short, or was a slip of a person's
// fingers does not; neither does one that found the lock taken, unless it is a
// take that the daemon has tried until its retries ran out.
func Conclusive(run Run) bool {
	detail := DetailOf(run)
	switch {
	case run.Outcome != Failed && run.Outcome != TimedOut:
		return false
	case detail.Failure == "locked":
		return detail.Daemon && run.Job == "backup"
	}
	return detail.Failure != "usage"
}
