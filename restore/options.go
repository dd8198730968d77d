package restore

import (
	"path/filepath"

	"github.com/atocore/atobackupd/internal/fsx"
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

// Options are the operator's answers. They stand in the journal too, so that an
// interrupted restore is finished as it was asked for.
type Options struct {
	// To lays the artifacts out below this directory instead, which must be
	// empty or missing, and touches nothing live.
	To string `json:"-"`

	// ConfirmServiceStopped says that the service is stopped.
	ConfirmServiceStopped bool `json:"-"`
	// NoPreSnapshot keeps no snapshot of what was live before.
	NoPreSnapshot bool `json:"no_pre_snapshot,omitempty"`
	// NoChroma leaves the live Chroma directory alone.
	NoChroma bool `json:"no_chroma,omitempty"`
	// ForceChroma restores Chroma even where the metadata do not claim it.
	ForceChroma bool `json:"force_chroma,omitempty"`
	// AllowInvalid restores what is there of a snapshot that does not validate.
	AllowInvalid bool `json:"allow_invalid,omitempty"`
	// AcceptOtherDeployment restores what another host or other paths were saved
	// from.
	AcceptOtherDeployment bool `json:"accept_other_deployment,omitempty"`
	// Force goes on although files are open, owners cannot be kept or space looks
	// short; with Abort it gives up what cannot be put back.
	Force bool `json:"force,omitempty"`
	// TrustBackupDir believes a journal beside the backups although others can
	// write there.
	TrustBackupDir bool `json:"-"`
}

// Request says what is to be restored, over what, and what the operator has
// answered. The caller holds the store's main lock.
type Request struct {
	Options

	Store    *snapshot.Store // where pre-restore snapshots go
	StateDir string          // where the journal stands
	Dir      string          // the snapshot's directory; empty for a published one of Store
	Stamp    snapshot.Stamp
	Source   string // "local", or the name of the target that Dir was fetched from
	Live     Live
	Host     string // this machine's name, as manifests record it

	RequiredTables []string // what the configuration asks of every snapshot
	Described      bool     // see snapshot.ValidateOptions

	HealthURL string   // a service that answers here is running; empty for none
	Service   *Service // stop and start the service around the restore; nil for not

	// PreSnapshot says how the snapshot of what was live is taken. Kind, Full,
	// Tolerant, Chroma.Method, Owners and RecordAs are set here.
	PreSnapshot snapshot.TakeOptions
	Share       bool // reflink where the file system can
	Progress    fsx.Progress
}

func (r *Request) dir() string {
	if r.Dir != "" {
		return r.Dir
	}
	return r.Store.Path(r.Stamp)
}

func (r *Request) place() Place {
	return Place{StateDir: r.StateDir, BackupDir: r.Store.Dir(), TrustBackupDir: r.TrustBackupDir}
}

// owners are the users whose links on the way to a live directory are followed.
func (r *Request) owners() tree.Owners { return tree.Trusted(r.StateDir) }

// sidecars are the files that SQLite puts beside a database. A stale one beside
// a restored database would be replayed into it.
var sidecars = []string{"-wal", "-shm", "-journal"}

// sidecarOf returns the database that a sidecar belongs to; ok is false for a
// name that is none.
func sidecarOf(name string) (main string, ok bool) {
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

// workName is the directory in which the copies for a live directory are made:
// inside it, because a rename across two mounts fails even on one file system.
func workName(stamp snapshot.Stamp) string { return workPrefix + string(stamp) }

// keptName is where files go that somebody else made during a restore, and what
// could not be saved.
func keptName(stamp snapshot.Stamp) string { return workName(stamp) + ".kept" }

func workDir(dir string, stamp snapshot.Stamp) string { return filepath.Join(dir, workName(stamp)) }

func keptDir(dir string, stamp snapshot.Stamp) string { return filepath.Join(dir, keptName(stamp)) }
