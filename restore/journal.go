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
// while a restore is under way. Version 0.1.0 had it in the backup directory.
const JournalFile = "restore-journal.json"

// journalSchema is the version of the journal that this program writes. That of
// version 0.1.0, schema 1, is taken up too; any other is not acted on.
const journalSchema = 2

// maxJournal bounds what is read of a journal: a slot for each of a million files.
const maxJournal = 256 << 20

// Phase is how far a restore has come. It is on disk before the first step of
// the phase is taken.
type Phase string

// The phases, in their order; doc.go draws them.
const (
	PhaseStaging   Phase = "staging"   // copies are made; the live store is untouched
	PhaseSwapping  Phase = "swapping"  // anything between all old and all new
	PhaseChecking  Phase = "checking"  // all new; the service is started and asked
	PhaseAnchoring Phase = "anchoring" // all new, and good; what was moved aside is being saved
	PhaseCommitted Phase = "committed" // only the old copies are left to remove
	PhaseAborted   Phase = "aborted"   // the live store is the old one again
)

// Journal is restore-journal.json. The whole plan of the swap, with the inode
// of every file that will move, is in it before the first one does. There is no
// counter of steps: where each inode is found says how far the swap has come,
// and cannot be out of date.
type Journal struct {
	Options

	Schema             int            `json:"schema"`
	Phase              Phase          `json:"phase"`
	Stamp              snapshot.Stamp `json:"stamp"`
	Source             string         `json:"source"`
	Snapshot           string         `json:"snapshot"` // the directory it comes from
	PreRestoreSnapshot string         `json:"pre_restore_snapshot"`
	StartedAt          time.Time      `json:"started_at"`
	Live               Live           `json:"live"`
	Managed            bool           `json:"managed,omitempty"` // the service is stopped and started by this restore
	Workspaces         []string       `json:"workspaces"`        // directories of ours beside live data
	MadeDirs           []string       `json:"made_dirs"`         // live directories that were missing
	Sets               []*swapSet     `json:"targets"`
	IntegrityOK        bool           `json:"integrity_ok"`

	state *tree.Dir // where it stands; open as long as the restore goes on
	name  string
	owner int
	path  string // for messages
}

// Place says where the journal of a restore stands.
type Place struct {
	StateDir       string
	BackupDir      string // where version 0.1.0 left its journals
	TrustBackupDir bool   // believe one there although others can write there
}

// unreadableHint is what to do about a journal that could not be read. Who may not
// look does not know that there is one.
func unreadableHint(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "whether a restore is unfinished cannot be seen; put sudo before it"
	}
	if errors.Is(err, errDamagedJournal) {
		return "`atobackupd restore --abort --force` moves it aside, and names what lies beside the live files"
	}
	return "a restore is unfinished; use the atobackupd that began it"
}

// Pending returns the journal of the unfinished restore, or nil when there is
// none. Whoever wrote it, it holds snapshots back; whether it may be acted on is
// asked by Resume and Abort.
func (p Place) Pending() (*Journal, error) {
	for _, dir := range []string{p.StateDir, p.BackupDir} {
		if dir == "" {
			continue
		}
		j, err := readJournal(dir, tree.Trusted(p.StateDir))
		if err != nil {
			return nil, &failure.Error{
				Op:      "restore journal",
				Subject: filepath.Join(dir, JournalFile),
				Kind:    failure.Refused,
				Err:     err,
				Hint:    unreadableHint(err),
			}
		}
		if j != nil {
			return j, nil
		}
	}
	return nil, nil
}

// RefusePending returns an error of kind Refused while a restore is unfinished:
// then nothing may be taken, pruned or restored.
func (p Place) RefusePending() error {
	j, err := p.Pending()
	if err != nil || j == nil {
		return err
	}
	defer j.close()
	return j.pending()
}

func readJournal(dir string, owners tree.Owners) (_ *Journal, err error) {
	at, err := tree.Open(dir, owners)
	if fsx.IsMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			at.Close()
		}
	}()
	f, err := at.OpenFile(JournalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, at.Close()
	}
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
	j := &Journal{state: at, name: JournalFile, owner: info.UID, path: filepath.Join(dir, JournalFile)}
	if err := json.Unmarshal(data, j); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamagedJournal, err)
	}
	if j.Schema < 1 {
		return nil, fmt.Errorf("%w: it has no schema", errDamagedJournal)
	}
	if j.Schema != 1 && j.Schema != journalSchema {
		return nil, fmt.Errorf("it has schema %d, this program knows %d", j.Schema, journalSchema)
	}
	return j, nil
}

// believed refuses a journal that somebody else may have written: its paths are
// acted on with this process's rights.
func (j *Journal) believed(p Place) error {
	refuse := func(err error, hint string) error {
		return &failure.Error{Op: "restore journal", Subject: j.path, Kind: failure.Refused, Err: err, Hint: hint}
	}
	if j.owner != os.Geteuid() && j.owner != 0 {
		return refuse(fmt.Errorf("it belongs to uid %d, and only a journal of one's own is taken up", j.owner),
			fmt.Sprintf("look at it; if no restore of yours was interrupted, remove it: rm '%s'", j.path))
	}
	if filepath.Dir(j.path) == filepath.Clean(p.StateDir) || p.TrustBackupDir {
		return j.plausible()
	}
	if err := tree.Private(j.path, tree.Trusted(p.StateDir)); err != nil {
		return refuse(err, "if the journal is yours, add --trust-backup-dir")
	}
	return j.plausible()
}

// plausible refuses a journal that names anything but workspaces of its own
// stamp: the workspaces are what is removed.
func (j *Journal) plausible() error {
	bad := func(what, path string) error {
		return &failure.Error{Op: "restore journal", Subject: j.path, Kind: failure.Refused,
			Err: fmt.Errorf("%s %q is not one that a restore makes", what, path), Hint: "nothing was touched"}
	}
	if _, err := snapshot.ParseStamp(string(j.Stamp)); err != nil {
		return bad("the stamp", string(j.Stamp))
	}
	for _, work := range j.Workspaces {
		if !filepath.IsAbs(work) || filepath.Base(work) != workName(j.Stamp) {
			return bad("the workspace", work)
		}
	}
	for _, set := range j.Sets {
		if set == nil {
			return bad("the target", "null")
		}
		if set.Work != filepath.Join(workDir(set.Dir, j.Stamp), set.Artifact) {
			return bad("the workspace", set.Work)
		}
		for _, e := range set.Entries {
			if !filepath.IsLocal(e.Name) || e.Name == "." || !set.Leaves && filepath.Base(e.Name) != e.Name {
				return bad("the name", e.Name)
			}
		}
	}
	return nil
}

// pending is the error that names an unfinished restore.
func (j *Journal) pending() error {
	finish := "finish it with `atobackupd restore --resume`"
	why, hint := "its restore was interrupted", finish+", or put everything back with `atobackupd restore --abort`"
	switch j.Phase {
	case PhaseAnchoring:
		why = "it was restored, and what was live before is not saved yet"
	case PhaseCommitted:
		why, hint = "it was restored, and the old copies are not removed yet", finish
	case PhaseAborted:
		why, hint = "its restore was taken back, and the copies are not removed yet", "run `atobackupd restore --abort`"
	}
	return &failure.Error{
		Op:      "restore pending",
		Subject: string(j.Stamp),
		Kind:    failure.Refused,
		Err:     errors.New(why),
		Hint:    hint,
	}
}

func (j *Journal) close() { j.state.Close() }

// write makes the journal durable: old or new, never something between. It stays
// the property of whoever restores.
func (j *Journal) write() error {
	data, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		return err
	}
	return j.state.WriteFile(j.name, append(data, '\n'), 0o644)
}

// enter writes the journal with another phase.
func (j *Journal) enter(p Phase) error {
	j.Phase = p
	return j.write()
}

// remove ends the restore: without a journal there is none under way.
func (j *Journal) remove() error {
	err := j.state.Remove(j.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, j.state.Sync())
}
