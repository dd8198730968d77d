package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// JournalFile is the journal's name in the state directory, where it stands only
// while a restore is under way. Version 0.1.0 put it into the backup directory.
const JournalFile = "restore-journal.json"

// journalSchema is the version of the journal that this program writes. A
// journal of another one is not acted on.
const journalSchema = 1

// Phase is how far a restore has come. It is on disk before the first step of
// the phase is taken.
type Phase string

// The phases. Staging and Swapping can go either way; the other two have been
// decided and only clean up.
const (
	PhaseStaging   Phase = "staging"   // copies are made; the live store is untouched
	PhaseSwapping  Phase = "swapping"  // anything between all old and all new
	PhaseCommitted Phase = "committed" // the live store is the restored one
	PhaseAborted   Phase = "aborted"   // the live store is the old one again
)

// Journal is restore-journal.json. The whole plan of the swap, with the inode
// of every file that will move, is in it before the first one does. There is no
// counter of steps: where each inode is found says how far the swap has come,
// and cannot be out of date.
type Journal struct {
	Schema             int            `json:"schema"`
	Phase              Phase          `json:"phase"`
	Stamp              snapshot.Stamp `json:"stamp"`
	Source             string         `json:"source"`
	Snapshot           string         `json:"snapshot"` // the directory it comes from
	PreRestoreSnapshot string         `json:"pre_restore_snapshot"`
	StartedAt          time.Time      `json:"started_at"`
	Live               Live           `json:"live"`
	NoChroma           bool           `json:"no_chroma,omitempty"`
	ForceChroma        bool           `json:"force_chroma,omitempty"`
	AllowInvalid       bool           `json:"allow_invalid,omitempty"`
	Exact              bool           `json:"exact,omitempty"`
	Managed            bool           `json:"managed,omitempty"` // the service was stopped by this restore
	Workspaces         []string       `json:"workspaces"`        // directories of ours beside live data
	MadeDirs           []string       `json:"made_dirs"`         // live directories that were missing
	Targets            []*Target      `json:"targets"`
	IntegrityOK        bool           `json:"integrity_ok"`

	path string
	uid  int // whose file it is
}

// Target is one live directory in which entries are exchanged.
type Target struct {
	Artifact string    `json:"artifact"`
	Dir      string    `json:"dir"`
	Work     string    `json:"work"`            // holds new/ and old/, in the same mount as Dir
	Whole    bool      `json:"whole,omitempty"` // every entry of Dir is replaced
	Slots    []*Slot   `json:"slots"`
	Files    []FileSum `json:"files,omitempty"` // what must be there after the swap

	// Where Dir and Work are worked in: through their handles.
	live       *tree.Dir
	workHandle string
}

// Slot is one name in a Target's directory.
type Slot struct {
	Name string    `json:"name"`
	Old  *Identity `json:"old,omitempty"` // what stood there; nil for nothing
	New  *Identity `json:"new,omitempty"` // what comes; nil for nothing

	// InPlace is for a file that is itself a mount point, which no rename can
	// replace: it is overwritten. old/ holds a copy of it from before the swap.
	InPlace bool `json:"in_place,omitempty"`
	Begun   bool `json:"begun,omitempty"` // overwriting may have begun
	Done    bool `json:"done,omitempty"`  // overwritten whole, and durable
}

// FileSum is the digest of one restored file, named from the Target's directory.
type FileSum struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

func (t *Target) dest(name string) string   { return filepath.Join(t.liveDir(), name) }
func (t *Target) staged(name string) string { return filepath.Join(t.newDir(), name) }
func (t *Target) aside(name string) string  { return filepath.Join(t.oldDir(), name) }
func (t *Target) newDir() string            { return filepath.Join(t.workDir(), "new") }
func (t *Target) oldDir() string            { return filepath.Join(t.workDir(), "old") }

func (t *Target) liveDir() string {
	if t.live != nil {
		return t.live.ProcPath("")
	}
	return t.Dir
}

func (t *Target) workDir() string {
	if t.workHandle != "" {
		return t.workHandle
	}
	return t.Work
}

func (t *Target) slot(name string) *Slot {
	for _, s := range t.Slots {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// restores tells whether the target brings anything.
func (t *Target) restores() bool {
	for _, s := range t.Slots {
		if s.New != nil {
			return true
		}
	}
	return t.Whole && len(t.Slots) == 0
}

// maxJournal bounds what is read of a journal: 100,000 files take 15 MB.
const maxJournal = 256 << 20

// PendingJournal returns the journal of the unfinished restore that stands in one
// of the directories, or nil when there is none. Anybody's counts here: what it
// asks for is another question, see mayTakeUp.
func PendingJournal(dirs ...string) (*Journal, error) {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		j, err := readJournal(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &failure.Error{Op: "restore journal", Subject: filepath.Join(dir, JournalFile), Kind: failure.Refused, Err: err,
				Hint: "a restore is unfinished; use the atobackupd that began it"}
		}
		return j, nil
	}
	return nil, nil
}

func readJournal(dir string) (*Journal, error) {
	d, err := tree.Open(dir, tree.Trusted(dir))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := d.OpenFile(JournalFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := tree.FileInfo(f)
	if err != nil {
		return nil, err
	}
	data, err := tree.ReadAll(f, maxJournal)
	if err != nil {
		return nil, err
	}
	j := &Journal{path: filepath.Join(dir, JournalFile), uid: info.UID}
	if err := json.Unmarshal(data, j); err != nil {
		return nil, err
	}
	if j.Schema != journalSchema {
		return nil, fmt.Errorf("it has schema %d, this program knows %d", j.Schema, journalSchema)
	}
	return j, nil
}

// mayTakeUp refuses a journal that is not the caller's own or root's, and one
// beside the backups, where version 0.1.0 put it, that somebody else could have
// put there: what a journal says is moved and removed.
func (j *Journal) mayTakeUp(c Continue) error {
	if j.uid != 0 && j.uid != os.Geteuid() {
		return refusal(string(j.Stamp), failure.Refused, fmt.Errorf("the journal %s belongs to uid %d", j.path, j.uid),
			"if nobody restores anything, look what it names and remove it")
	}
	if c.StateDir == "" || filepath.Dir(j.path) == filepath.Clean(c.StateDir) || c.TrustBackupDir {
		return nil
	}
	return tree.Private(j.path, tree.Trusted(c.StateDir))
}

// write makes the journal durable: old or new, never something between.
func (j *Journal) write() error {
	data, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		return err
	}
	return fsx.WriteFile(j.path, append(data, '\n'), 0o644) // the service reads it, in its own directory
}

// enter writes the journal with another phase.
func (j *Journal) enter(p Phase) error {
	j.Phase = p
	return j.write()
}

// kept lists what somebody else made during the restore and was moved aside.
func (j *Journal) kept() (paths []string) {
	seen := map[string]bool{}
	for _, t := range j.Targets {
		dir := keptDir(t.Dir, j.Stamp)
		if seen[dir] {
			continue
		}
		seen[dir] = true
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}
