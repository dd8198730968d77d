package health

import (
	"strings"
	"time"
)

// Status is the document of `status` and of GET /api/status: the report, and
// what goes with it.
type Status struct {
	Report
	Daemon    DaemonStatus    `json:"daemon"`
	Running   []RunningStatus `json:"running"`
	Snapshots SnapshotsStatus `json:"snapshots"`
	Space     *SpaceStatus    `json:"space"` // null where there is no backup.dir to ask
	Targets   []TargetStatus  `json:"targets"`
	Alarms    []Alarm         `json:"alarms"` // those that are open
}

// DaemonStatus says who keeps the schedule.
type DaemonStatus struct {
	State string     `json:"state"` // running, stopped, hung, never started
	Since *time.Time `json:"since"` // it runs, or was last heard of; null when never

	Beat time.Time `json:"-"` // when the scheduler's loop was last seen at work
}

// RunningStatus is a job that is under way.
type RunningStatus struct {
	Job   string    `json:"job"`
	Kind  string    `json:"kind"` // of the snapshot; "" for none
	Since time.Time `json:"since"`

	Progress *Progress `json:"progress"` // null where it is not known
}

// SnapshotsStatus sums the local snapshots up. Stamps are "" where there is none.
type SnapshotsStatus struct {
	Count      int    `json:"count"`
	Valid      int    `json:"valid"`
	Full       int    `json:"full"`
	Bytes      int64  `json:"bytes"`
	Newest     string `json:"newest"`      // the newest that counts
	NewestFull string `json:"newest_full"` // the newest that counts and holds Chroma
}

// SpaceStatus says how the disk under backup.dir fills. Nothing is ever deleted
// to make room: a take that finds too little of it fails, and a person decides.
type SpaceStatus struct {
	Free         int64  `json:"free"`                 // bytes
	MinFree      int64  `json:"min_free"`             // what a take leaves free
	GrowthPerDay *int64 `json:"growth_bytes_per_day"` // null while too little is known
	// until only MinFree is left; null when it does not grow, or not within years
	FullInDays *int `json:"full_in_days"`
}

// TargetStatus says how one target stands.
type TargetStatus struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Snapshots int    `json:"snapshots"` // none while it is away
	Newest    string `json:"newest"`
	Behind    int    `json:"behind"` // snapshots that count here and that it does not hold
	Away      bool   `json:"away"`   // its vault was not where it was looked for last

	LastSeen string `json:"-"` // of one that is away: the newest snapshot that it held
}

// Command returns the command line in a problem's hint; "" where it names none.
func (p Problem) Command() string { return commandIn(p.Hint) }

// commandIn finds the first command line in a hint: between backquotes, or from
// the name of a program to the end of its clause.
func commandIn(hint string) string {
	if _, after, ok := strings.Cut(hint, "`"); ok {
		if command, _, ok := strings.Cut(after, "`"); ok {
			return command
		}
	}
	first := len(hint)
	for _, program := range []string{"atobackupd ", "systemctl ", "journalctl ", "timedatectl", "chmod ", "chown "} {
		if i := strings.Index(hint, program); i >= 0 && (i == 0 || hint[i-1] == ' ') {
			first = min(first, i)
		}
	}
	command := hint[first:]
	ends := []string{"; ", ", ", ": "}
	if strings.HasPrefix(command, "chown ") {
		ends = ends[:2] // "chown -R atobackupd: DIR" gives its group, too
	}
	for _, end := range ends {
		command, _, _ = strings.Cut(command, end)
	}
	return command
}
