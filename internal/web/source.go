package web

import (
	"context"
	"time"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Source is what the server shows and does. Its methods are called from many
// goroutines. Errors are those of failure.Error where their kind matters:
// Locked, Refused, NotFound and NoSpace have an HTTP status of their own.
type Source interface {
	// Look returns how everything stands at now. It takes no lock and changes
	// nothing.
	Look(ctx context.Context, now time.Time) (*State, error)

	// Validate reads one snapshot again and judges it. One that does not exist
	// is a Result too, with Exists false. It ends early when ctx does.
	Validate(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error)

	// Backup takes a snapshot of kind manual and returns the document about it:
	// AtoCore's metadata with backup_root. While another job holds the main lock
	// it fails at once, with kind Locked.
	Backup(ctx context.Context, includeChroma bool) (document any, err error)
}

// State is how everything stood at one moment. Times may be in any zone: they
// are shown in Location.
type State struct {
	Now      time.Time
	Location *time.Location // the configured zone
	Host     string
	Version  string

	// Status is the document of `status --json`, served as it is. Its report is
	// what everything here shows: no level and no headline is found out here.
	Status health.Status

	Alarms []history.Alarm // open and over, newest first

	BackupDir string
	Snapshots []snapshot.Snapshot // oldest first
	Decision  retention.Decision  // over those of Snapshots that were ever validated
	Warnings  []string            // about what looks wrong in BackupDir
	FreeBytes int64               // on the disk of BackupDir; negative where it is not known

	Targets []Target
	Pushes  []history.Push  // newest first
	Takes   []Take          // that went well, oldest first, pruned ones too
	Runs    []history.Run   // those under way, and the last of each job that ended, newest first
	Recent  []history.Run   // of any job and outcome, newest first
	Drills  []history.Drill // newest first
	Next    []Upcoming      // in the order of the configuration

	Commands Commands
}

// Target is one place off-site, as it was last seen.
type Target struct {
	Name        string
	Type        string // sftp or dir
	Place       string // where the vault is, for people
	Level       string
	Stamps      []snapshot.Stamp // that it holds, oldest first; none while it is away
	Away        bool             // its vault was not where it was looked for last
	Behind      int              // valid local snapshots that it should get and does not hold
	BehindBytes int64            // of those, as they lie here
	LastSuccess time.Time
	LastAttempt time.Time
	NextTry     time.Time
	LastError   string // of the last attempt; "" when it went well
	Limit       time.Duration
}

// Newest returns the newest snapshot that the target holds; "" for none.
func (t Target) Newest() snapshot.Stamp {
	if len(t.Stamps) == 0 {
		return ""
	}
	return t.Stamps[len(t.Stamps)-1]
}

// Take is one snapshot that was taken, also one that retention has deleted
// since.
type Take struct {
	Stamp    snapshot.Stamp
	Full     bool
	Bytes    int64
	Duration time.Duration
}

// Upcoming is the next slot of a job.
type Upcoming struct {
	Job string
	At  time.Time
}

// Commands is what the commands that are shown depend on.
type Commands struct {
	ConfigPath    string // "" for the default one
	ManageService bool   // the configuration says how to stop and start AtoCore
	StopService   string // how a person stops it
	StartService  string
}
