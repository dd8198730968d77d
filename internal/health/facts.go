package health

import "time"

// Facts are all that the judgement depends on, besides the time. They are what
// was found by looking, not what was concluded from it.
type Facts struct {
	Legs   []LegFacts
	Takes  Takes
	Clocks []string // what is dated in the future: "the last scrub, 2031-01-01 00:00 UTC"

	RestorePending *Trouble   // a restore journal stands
	Damage         []Damage   // findings that no clean check has ended
	Settled        []Settled  // how damage ended that nothing has healed
	Shrunk         []Shrunk   // suspect takes that nobody accepted, newest last
	Unverified     *Trouble   // of the newest full snapshot
	Space          *Space     // nil where there is no disk to ask
	History        History    // of history.db
	Config         *Trouble   // a reload was refused, and the daemon goes on with the old one
	NotStarted     *Trouble   // the daemon's last start was refused, and none runs
	Notify         []Trouble  // one for each address that did not take the last message
	Daemon         Daemon     // who keeps the schedule
	Lock           *LockFacts // who holds the main lock; nil for nobody
	Recipients     *Trouble   // nobody can be sealed to, while a target is configured
	Shared         *Trouble   // others can write into the backup directory
	Mount          *Trouble   // the marker of the backup directory is missing
	Others         []Other    // what only the daemon finds: a job that hangs, an address that is taken
}

// Trouble is something that is wrong: what, what to do about it, and since when;
// zero where that is not known.
type Trouble struct {
	Message string    `json:"message"`
	Hint    string    `json:"hint,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Other is a trouble with a name of its own.
type Other struct {
	Name string `json:"name"`
	Trouble
}

// Damage is a snapshot or an object of a vault that was found damaged or
// missing.
type Damage struct {
	Subject string // a stamp, or "laptop: packs/…"
	What    string
	Gone    bool // the whole snapshot is not there
	Hint    string
	Since   time.Time // zero where that is not known
}

// Settled says how damage ended that nothing has healed: it did not recover.
type Settled struct {
	Subject string // as the message of its alarm has it
	How     string // Unwatched, or what was done about it: "accepted as lost"
}

// Shrunk is a take whose source had lost much.
type Shrunk struct {
	Stamp string
	What  []string // codes, with figures where they are known
	Since time.Time
}

// Space says how the disk of the snapshots fills.
type Space struct {
	Free       int64
	Keep       int64 // that a take leaves free
	Next       int64 // that the next full snapshot needs, at most
	FullInDays *int  // nil when it does not grow
	Hint       string
}

// History says how the record of what happened stands.
type History struct {
	ReadError  string // it is there and cannot be read
	WriteError string // it cannot be written
	Hint       string // what helps against such an error; "" for making room
	Missing    bool   // there is none, although there are snapshots of ours
	Foreign    bool   // it is that of another backup directory, and counts for nothing
	// StartedOver is when a new record took the place of one that was lost or
	// damaged; zero when it never was.
	StartedOver time.Time
	ScrubPassed bool // since then, over all snapshots
	TookForeign bool // the one before it was that of another backup directory
}

// States of the daemon.
const (
	DaemonRunning = "running"
	DaemonStopped = "stopped"
	DaemonHung    = "hung"
	DaemonNever   = "never started"
)

// Daemon says who keeps the schedule.
type Daemon struct {
	Scheduled bool      // there is a schedule to keep
	State     string    // one of the constants
	Since     time.Time // it runs, or was last heard of; zero when never
	Beat      time.Time // when the scheduler's loop was last seen at work
	Crash     *Trouble  // how the one before it ended, where nobody wanted that
	Second    *Trouble  // another one that was found beside it
}

// LockFacts says who holds the main lock since when.
type LockFacts struct {
	Holder string
	Since  time.Time
	Hint   string
}

// Takes says when the newest snapshots that count were taken. What comes after a
// take is excused for a while when it was well before.
type Takes struct {
	Newest, Before time.Time     // the newest one, and the one before it; zero for none
	Limit          time.Duration // of the snapshot leg
}

// LegFacts is what is known of one leg.
type LegFacts struct {
	Name    string
	Limit   time.Duration // how old its last success may be
	Off     string        // why it is not watched: `alarms.drill = "off"`; "" when it is
	Holds   bool          // it is about snapshots on this disk: without one it is bad
	Follows bool          // it comes after a take
	Late    string        // the level of one whose limit has passed

	Watched time.Time // when it was first known to a schedule or a record; zero: never
	Due     time.Time // when it should have run first; zero where that is not known
	Next    time.Time // its next slot

	LastSuccess time.Time
	LastAttempt time.Time
	LastError   string    // of the last attempt, also where that says nothing about the leg
	Newest      time.Time // of the snapshot that counts for it; zero: none
	Ahead       string    // the stamp of one that is whole and dated in the future, where Newest is zero
	Last        Run       // the newest decisive run; zero: none
	Running     bool      // a run is under way
	RetryAt     time.Time // when the schedule starts it again after a failure; zero: it does not
	Hint        string    // what to run where no failure says so

	Unremembered bool  // what ran cannot be known: the history is gone or cannot be read
	Err          error // the facts could not be found out
}

// reference is when the leg was last known to be well, and how that reads.
func (f LegFacts) reference() (time.Time, string) {
	if !f.Newest.IsZero() {
		return f.Newest, "its newest snapshot is of"
	}
	return f.LastSuccess, "its last success was"
}
