package restore

import (
	"cmp"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// Live names the configured places of the artifacts. Registry and Chroma may
// be empty: then there is none.
type Live struct {
	DB       string `json:"db"`
	Registry string `json:"registry,omitempty"`
	Chroma   string `json:"chroma,omitempty"`
}

// Progress is told what is being done and, in steps that read much, the bytes
// since the last call. It may be nil, and is called from several goroutines.
type Progress func(step string, bytes int64)

// Request says what is to be restored, over what, and what the operator has
// confirmed. The caller holds the store's main lock.
type Request struct {
	Store *snapshot.Store // where pre-restore snapshots and the journal go
	Dir   string          // the snapshot's directory; empty for a published one of Store
	Stamp snapshot.Stamp
	// StateDir is where the journal lies; "" for the store's directory.
	StateDir string
	// Owners are the users whose links are followed and whose journal counts; nil
	// for root and the caller.
	Owners tree.Owners
	Source string // "local", or the name of the target that Dir was fetched from
	Live   Live
	Host   string // this machine's name, as manifests record it

	RequiredTables []string // what the configuration asks of every snapshot

	// To lays the artifacts out below this directory instead, which must be
	// empty or missing, and touches nothing live.
	To string

	ConfirmServiceStopped bool // the operator says that the service is stopped
	NoPreSnapshot         bool // take no snapshot of the live store first
	NoChroma              bool // leave the live Chroma directory alone
	ForceChroma           bool // restore Chroma even where the metadata do not claim it
	AllowInvalid          bool // restore a snapshot that does not validate
	AcceptOtherDeployment bool // restore what another host or other paths were saved from
	Force                 bool // go on although files are open, owners cannot be kept or space looks short

	HealthURL string   // a service that answers here is running; empty for none
	Service   *Service // stop and start the service around the restore; nil for not

	// PreSnapshot says how the snapshot of the live store is taken. Kind, Full,
	// Tolerant and ChromaMethod are set here.
	PreSnapshot snapshot.TakeOptions
	Share       bool // reflink where the file system can
	Progress    Progress

	// exact also removes what the snapshot says was not there: a roll-back.
	exact bool
}

// pending returns the journal of an unfinished restore.
func (r *Request) pending() (*Journal, error) { return PendingJournal(r.StateDir, r.Store.Dir()) }

// journalPath is where a new journal is written.
func (r *Request) journalPath() string {
	return filepath.Join(cmp.Or(r.StateDir, r.Store.Dir()), JournalFile)
}

func (r *Request) owners() tree.Owners {
	if r.Owners == nil {
		return tree.Trusted("")
	}
	return r.Owners
}

func (r *Request) dir() string {
	if r.Dir != "" {
		return r.Dir
	}
	return r.Store.Path(r.Stamp)
}

func (r *Request) progress(step string, bytes int64) {
	if r.Progress != nil {
		r.Progress(step, bytes)
	}
}

// Result tells what a restore did. The three Restored fields speak of what is
// live now: after a roll-back, or when everything was put back, they are false.
type Result struct {
	Stamp               string   `json:"stamp"`
	Source              string   `json:"source"`
	PreRestoreSnapshot  string   `json:"pre_restore_snapshot"` // "" when none was taken
	DBRestored          bool     `json:"db_restored"`
	RegistryRestored    bool     `json:"registry_restored"`
	ChromaRestored      bool     `json:"chroma_restored"`
	RestoredIntegrityOK bool     `json:"restored_integrity_ok"`
	RolledBack          bool     `json:"rolled_back"`
	Warnings            []string `json:"warnings"`
	Errors              []string `json:"errors"`
	DurationMS          int64    `json:"duration_ms"`
}

func newResult(stamp, source string) Result {
	return Result{Stamp: stamp, Source: source, Warnings: []string{}, Errors: []string{}}
}

// close completes a result on the way out.
func (r *Result) close(start time.Time, err error) {
	r.DurationMS = time.Since(start).Milliseconds()
	if err != nil {
		r.Errors = append(r.Errors, err.Error())
	}
}

// restored sets the flag of an artifact.
func (r *Result) restored(artifact string, yes bool) {
	switch artifact {
	case snapshot.DB:
		r.DBRestored = yes
	case snapshot.Registry:
		r.RegistryRestored = yes
	case snapshot.Chroma:
		r.ChromaRestored = yes
	}
}

func (r *Result) nothingRestored() {
	r.DBRestored, r.RegistryRestored, r.ChromaRestored, r.RestoredIntegrityOK = false, false, false, false
}

// sidecars are the files that SQLite puts beside a database. A stale one beside
// a restored database would be replayed into it.
var sidecars = []string{"-wal", "-shm", "-journal"}

// mainOf gives the database that a sidecar belongs to; ok is false for a name
// that is none.
func mainOf(name string) (main string, ok bool) {
	for _, suffix := range sidecars {
		if n := len(name) - len(suffix); n > 0 && name[n:] == suffix {
			return name[:n], true
		}
	}
	return "", false
}

// workPrefix begins the names of everything that a restore makes beside live
// data; package snapshot leaves such names out.
const workPrefix = ".atobackupd-restore-"

// workDir is where the copies for a live directory are made: inside it, because
// a rename across two mounts fails even on one file system.
func workDir(dir string, stamp snapshot.Stamp) string {
	return filepath.Join(dir, workPrefix+string(stamp))
}

// keptDir is where files go that somebody else made during a restore.
func keptDir(dir string, stamp snapshot.Stamp) string { return workDir(dir, stamp) + ".kept" }
