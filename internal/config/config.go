// Package config reads the one configuration file, strict TOML, into a Config.
//
// Strict means that a key nobody knows, a value of the wrong type, a path that
// is not absolute or a combination that cannot work is an error, and that all
// errors of a file are reported together, each with its line. Nothing here
// opens, dials or runs what the file names; that is for `config check` and for
// the moment of use.
package config

import "github.com/atocore/atobackupd/snapshot/chroma"

// DefaultPath is where the configuration is read from unless --config or
// ATOBACKUPD_CONFIG says otherwise.
const DefaultPath = "/etc/atobackupd/config.toml"

// Config is the whole configuration. Make one with Load, Parse or Default.
type Config struct {
	// StateDir is the directory of the history, the vault maps and the signing
	// key. Default "/var/lib/atobackupd".
	StateDir string `toml:"state_dir"`

	AtoCore    AtoCore    `toml:"atocore"`
	Backup     Backup     `toml:"backup"`
	Schedule   Schedule   `toml:"schedule"`
	Retention  Retention  `toml:"retention"`
	Encryption Encryption `toml:"encryption"`
	Offsite    []Target   `toml:"offsite,omitempty"`
	Restore    Restore    `toml:"restore"`
	Drill      Drill      `toml:"drill"`
	Alarms     Alarms     `toml:"alarms"`
	Notify     Notify     `toml:"notify"`
	HTTP       HTTP       `toml:"http"`
	Log        Log        `toml:"log"`

	// Path is the file that this was read from; empty for Default.
	Path string `toml:"-"`

	where         map[string]position // of every key that the file sets
	worldReadable bool                // the file can be read by every user
}

// AtoCore says where the live data is and how to reach the application.
type AtoCore struct {
	// DBPath is AtoCore's SQLite database. Required.
	DBPath string `toml:"db_path"`

	// RegistryPath is the project registry, a JSON file. Default "": there is
	// none to back up.
	RegistryPath string `toml:"registry_path"`

	// ChromaPath is Chroma's data directory. Default "": there is none to back
	// up, and no snapshot is a full one.
	ChromaPath string `toml:"chroma_path"`

	// RequiredTables names tables without which a copy of the database is not
	// AtoCore's, e.g. ["memories", "source_documents"]. Default none.
	RequiredTables []string `toml:"required_tables"`

	// APIURL is the base address of AtoCore's HTTP API, e.g.
	// "http://127.0.0.1:8100". Default "": unknown. The chroma method "api"
	// needs it.
	APIURL string `toml:"api_url"`

	// HealthURL answers while AtoCore runs, e.g.
	// "http://127.0.0.1:8100/health". A restore is refused while it answers,
	// and waits for it after a start. Default "": not asked.
	HealthURL string `toml:"health_url"`
}

// Backup says where snapshots go and how they are taken.
type Backup struct {
	// Dir holds the snapshots, on a file system with room for all of them.
	// Required.
	Dir string `toml:"dir"`

	// MinFree is the space that a take leaves free on the file system of Dir;
	// a take that would leave less is refused before it writes. Default
	// "1GiB".
	MinFree Size `toml:"min_free"`

	// ChromaMethod is how Chroma is copied: "live" (needs nothing of the
	// application), "api" (AtoCore's own endpoint), "freeze" (pauses the
	// container), "btrfs" (a read-only subvolume snapshot) or "cold" (the
	// service is known to be stopped). Default "live".
	ChromaMethod chroma.Method `toml:"chroma_method"`

	// ChromaFallback is the method that stands in when the API does not answer
	// under the method "api": "live", "freeze" or "btrfs". Default "live".
	ChromaFallback chroma.Method `toml:"chroma_fallback"`

	// ChromaOptimisticTries is how often the method "live" tries to meet a
	// quiet moment before it makes Chroma's writers wait. 0 makes them wait at
	// once. Default 5.
	ChromaOptimisticTries int `toml:"chroma_optimistic_tries"`

	// ChromaLockDeadline bounds how long the method "live" makes Chroma's
	// writers wait; past it the take fails. Default "5m".
	ChromaLockDeadline Duration `toml:"chroma_lock_deadline"`

	// FreezeCommand pauses the application for the method "freeze", as a list
	// of words that no shell reads, e.g. ["docker", "pause", "atocore"].
	// Default none.
	FreezeCommand []string `toml:"freeze_command"`

	// ThawCommand undoes FreezeCommand and is run whatever happened, e.g.
	// ["docker", "unpause", "atocore"]. Default none.
	ThawCommand []string `toml:"thaw_command"`

	// FreezeDeadline is the longest that the application stays frozen; past it
	// it is thawed and the take fails. Default "10m".
	FreezeDeadline Duration `toml:"freeze_deadline"`

	// AtoCoreGroup is the group, by name or number, through which AtoCore adds
	// snapshots of its own to Dir, e.g. "1000"; it can read those that are here
	// and change none of them. Needed by the method "api". Default "": nobody
	// else adds any, and Dir is private.
	AtoCoreGroup string `toml:"atocore_group"`

	// Share is how snapshots share space with each other: "auto" (the first
	// that works), "reflink", "hardlink" or "copy". Default "auto".
	Share string `toml:"share"`
}

// Schedule says when jobs run, as cron expressions of five fields, @daily or
// @every. An empty expression turns its job off.
type Schedule struct {
	// Timezone is the IANA name of the zone in which expressions and calendar
	// days are read, e.g. "Europe/Berlin". Default "UTC".
	Timezone string `toml:"timezone"`

	// Daily is when the database and the registry are saved. Default
	// "0 6 * * *".
	Daily string `toml:"daily"`

	// Weekly is when Chroma is saved too. Default "0 5 * * 0", and "" where
	// atocore.chroma_path is not set.
	Weekly string `toml:"weekly"`

	// Monthly is when a snapshot with Chroma is taken for the monthly slots of
	// [retention]. Default "0 4 1 * *", and "" where atocore.chroma_path is not
	// set.
	Monthly string `toml:"monthly"`

	// Scrub is when stored snapshots are read again and checked. Default
	// "0 3 * * 3".
	Scrub string `toml:"scrub"`

	// Verify is when what the targets hold is read again and checked, as far as
	// that needs no key. Default "0 2 * * 6".
	Verify string `toml:"verify"`

	// Drill is when a snapshot is restored into a scratch directory and
	// checked. Default "0 7 1 1,4,7,10 *".
	Drill string `toml:"drill"`

	// CatchUp runs the newest slot that was missed while the machine was off
	// or asleep, once, as soon as it is back. Default true.
	CatchUp bool `toml:"catch_up"`

	// ScrubMaxBytes bounds what one scrub reads; the next one goes on where it
	// stopped. "0" is no bound. Default "50GiB".
	ScrubMaxBytes Size `toml:"scrub_max_bytes"`

	// VerifyMaxBytes bounds what one verify reads of each target; the next one
	// goes on with what was read least recently. "0" is no bound. Default
	// "20GiB".
	VerifyMaxBytes Size `toml:"verify_max_bytes"`

	// VerifyEvery is within how long everything that a target holds is to be
	// read once; until then its verify does not count as done. Default "35d".
	VerifyEvery Duration `toml:"verify_every"`

	// ShutdownTimeout is how long a running job may take to reach a safe point
	// after SIGTERM before it is abandoned. Default "60s".
	ShutdownTimeout Duration `toml:"shutdown_timeout"`
}

// Retention says which snapshots are kept. All three counts at 0 keep
// everything.
type Retention struct {
	// This is retention.Policy in the units of this file, "48h" and whole days,
	// without the time zone and the first day of the week, which are the
	// schedule's: reading it needs neither a zone nor the weekly expression.

	// Daily is for how many calendar days that have a snapshot the newest of
	// that day is kept. Default 7.
	Daily int `toml:"daily"`

	// Weekly is for how many weeks that have a snapshot one of their earliest
	// day is kept. Weeks start on the weekday of schedule.weekly where it names
	// exactly one, else on Sunday. Default 4.
	Weekly int `toml:"weekly"`

	// Monthly is for how many months that have a snapshot one of their
	// earliest day is kept. Default 6.
	Monthly int `toml:"monthly"`

	// KeepWithin is the age up to which every valid snapshot is kept, whatever
	// the counts say, so that one taken before an upgrade survives the day. "0"
	// keeps none for its age. Default "48h".
	KeepWithin Duration `toml:"keep_within"`

	// PreRestoreDays is for how many days the snapshot that a restore takes
	// beforehand is kept. Default 30.
	PreRestoreDays int `toml:"pre_restore_days"`

	// SuspectDays is for how many days what was valid before a snapshot of a
	// source that shrank is kept, unless somebody accepts it as meant with the
	// command accept. Default 30.
	SuspectDays int `toml:"suspect_days"`

	// InvalidDays is for how many days an invalid snapshot is kept. Default 7.
	InvalidDays int `toml:"invalid_days"`

	// MaxDeleteFraction is the part of the valid snapshots that one prune may
	// delete, above 0 and at most 1; a plan beyond it waits for
	// `prune --confirm`. Default 0.5.
	MaxDeleteFraction float64 `toml:"max_delete_fraction"`
}

// Encryption says who can read what is shipped.
type Encryption struct {
	// Recipients are the public keys that off-site copies are encrypted to:
	// "age1…", "age1pq…" or "ssh-ed25519 …". Best two: the laptop's, and one
	// whose secret lies in a drawer. Default none.
	Recipients []string `toml:"recipients"`

	// RecipientsFile is a file of more recipients, one a line. Default "".
	RecipientsFile string `toml:"recipients_file"`

	// Compression is how hard packs are compressed: "fastest", "default" or
	// "better". Default "default".
	Compression string `toml:"compression"`
}

// Drill says what a restore drill asks of the restored copy.
type Drill struct {
	// Queries are SQL statements that must return true on the restored
	// database, e.g. "select count(*) > 0 from memories". Default none.
	Queries []string `toml:"queries"`
}

// Alarms says how old the last success of a job may get before somebody is
// told: a duration, or "off". Targets have max_age for what they hold.
type Alarms struct {
	// Snapshot is the greatest age of the newest snapshot. Default "26h".
	Snapshot Limit `toml:"snapshot"`

	// Full is the greatest age of the newest snapshot that holds Chroma.
	// Default "8d".
	Full Limit `toml:"full"`

	// Prune is the greatest age of the last prune. Default "26h".
	Prune Limit `toml:"prune"`

	// Scrub is the greatest age of the last scrub. Default "9d".
	Scrub Limit `toml:"scrub"`

	// Drill is the greatest age of the last drill. Default "100d".
	Drill Limit `toml:"drill"`

	// LiveDrill is the greatest age of the last `atobackupd drill --live`.
	// Default "100d" where restore.stop_command is set, else "off".
	LiveDrill Limit `toml:"live_drill"`

	// Verify is the greatest age of the last verify of each target. Default
	// "40d".
	Verify Limit `toml:"verify"`
}

// Notify says who is told. Its addresses hold secrets and are never printed.
type Notify struct {
	// URLs are shoutrrr addresses, e.g. "ntfy://ntfy.sh/topic". Default none.
	URLs []string `toml:"urls"`

	// URLsFile is a file of more such addresses, one a line, for a
	// configuration that others may read. Default "".
	URLsFile string `toml:"urls_file"`

	// Command is run for each message, which it reads on its standard input: a
	// list of words that no shell reads, e.g. ["/usr/local/bin/tell", "ops"].
	// Default none.
	Command []string `toml:"command"`

	// Digest is when a message says how things stand although all is well, as a
	// cron expression, e.g. "0 8 * * 1". Default "": never.
	Digest string `toml:"digest"`

	// Heartbeats names for a leg ("snapshot", "full", "prune", "scrub", "drill",
	// "live-drill", "offsite:NAME" or "verify:NAME") the address that is called
	// on its start, success and failure, after the convention of
	// healthchecks.io. Default none.
	Heartbeats map[string]string `toml:"heartbeats"`
}

// HTTP says where the dashboard, the API and the metrics are served.
type HTTP struct {
	// Listen is the address and port. "" turns HTTP off. An address beyond
	// this machine needs TokenFile. Default "127.0.0.1:8120".
	Listen string `toml:"listen"`

	// TokenFile is a file with the bearer token that writes need. Default "":
	// writes only from this machine.
	TokenFile string `toml:"token_file"`

	// RequireToken asks writes from this machine for the token too, so that its
	// other users cannot ask for snapshots. Needs TokenFile. Default false.
	RequireToken bool `toml:"require_token"`
}

// Log says what is written to stderr, and so to the journal.
type Log struct {
	// Level is the least that is written: "debug", "info", "warn" or "error".
	// Default "info".
	Level string `toml:"level"`

	// Format is "text", "json" or "auto" (journal levels under systemd, else
	// text). Default "auto".
	Format string `toml:"format"`
}
