package health

import (
	"encoding/json"
	"time"
)

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Running     Outcome = "running"
	OK          Outcome = "ok"
	Failed      Outcome = "failed"
	Skipped     Outcome = "skipped"
	Interrupted Outcome = "interrupted"
	TimedOut    Outcome = "timeout"
)

// Run is one attempt at a job, by the daemon or by a command.
type Run struct {
	ID         int64           `json:"id"`
	Job        string          `json:"job"`
	Kind       string          `json:"kind,omitempty"`  // of the snapshot
	Slot       time.Time       `json:"slot,omitzero"`   // zero when it was not the clock that asked
	Stamp      string          `json:"stamp,omitempty"` // of the snapshot
	StartedAt  time.Time       `json:"started_at"`
	FinishedAt time.Time       `json:"finished_at,omitzero"`
	Outcome    Outcome         `json:"outcome"`
	Error      string          `json:"error,omitempty"`
	Bytes      int64           `json:"bytes"`
	Detail     json.RawMessage `json:"detail,omitempty"`
}

// Alarm says that a leg is bad, or was.
type Alarm struct {
	ID         int64     `json:"id"`
	Leg        string    `json:"leg"`
	Since      time.Time `json:"since"`
	Level      string    `json:"level"` // warning or critical
	Message    string    `json:"message"`
	NotifiedAt time.Time `json:"notified_at,omitzero"` // when somebody was last told; zero for not yet
	ResolvedAt time.Time `json:"resolved_at,omitzero"` // zero while it is open
}

// Leg is one thing that can go stale by itself, and how it last went.
type Leg struct {
	Name        string    `json:"name"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	LastError   string    `json:"last_error,omitempty"` // of the last attempt; "" when it went well
}
