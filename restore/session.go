package restore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// session is one restore on its way, in this process or taken over from one
// that was killed.
type session struct {
	*Journal
	owners    tree.Owners
	share     bool
	keepOwner bool // false: --force, and this process may not give files away
	progress  fsx.Progress
	warnings  []string
	warning   sync.Mutex
	resumed   bool             // taken over from another process
	proven    *snapshot.Proven // the snapshot that is restored, where this process has validated it

	setAsidePaths []string // where things were moved that stay
}

func (s *session) warn(format string, args ...any) {
	s.warning.Lock()
	defer s.warning.Unlock()
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// close releases the handles of a restore that is over, or that stands.
func (s *session) close() {
	for _, t := range s.Sets {
		t.close()
	}
	s.Journal.close()
}

// begin writes the journal for what prepare is going to make beside live data.
func begin(r *Request, list []*artifact) (*session, error) {
	state, err := tree.OpenOrMake(r.StateDir, r.owners(), 0o700)
	if err != nil {
		return nil, &failure.Error{Op: "state_dir", Subject: r.StateDir, Kind: failure.Config, Err: err,
			Hint: "the journal of a restore stands there: make it, owned by the user that atobackupd runs as"}
	}
	s := &session{
		Journal: &Journal{
			Options: r.Options, Schema: journalSchema, Phase: PhaseStaging, Stamp: r.Stamp, Source: r.Source,
			Snapshot:  r.dir(),
			StartedAt: time.Now().UTC().Truncate(time.Second), Live: r.Live, Managed: r.Service != nil,
			Workspaces: []string{}, MadeDirs: []string{}, Sets: []*swapSet{},
			state: state, name: JournalFile, path: filepath.Join(r.StateDir, JournalFile),
		},
		owners: r.owners(), share: r.Share, keepOwner: !r.Force || hasChown(), progress: r.Progress,
	}
	seen := map[string]bool{}
	for _, a := range list {
		work := workDir(a.dir, r.Stamp)
		if seen[work] {
			continue
		}
		seen[work] = true
		s.Workspaces = append(s.Workspaces, work)
		for dir := a.dir; fsx.Nearest(dir) != dir && !seen["made "+dir]; dir = filepath.Dir(dir) {
			seen["made "+dir] = true
			s.MadeDirs = append(s.MadeDirs, dir) // deepest first
		}
	}
	return s, s.write()
}

// prepare makes the missing live directories and fills the workspaces. The live
// store stays untouched. On an error everything is as before.
func (s *session) prepare(ctx context.Context, list []*artifact, src *source) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discard())
		}
	}()
	s.Sets = []*swapSet{}
	for _, a := range list {
		if err := s.makeDir(a); err != nil {
			return err
		}
		t, err := s.openSet(a)
		if err != nil {
			return fmt.Errorf("stage %s: %w", a.name, err)
		}
		s.Sets = append(s.Sets, t)
	}
	// Side by side: one artifact is copied, proven or flushed while another is.
	group, copying := errgroup.WithContext(ctx)
	for i, a := range list {
		group.Go(func() error {
			if err := s.stage(copying, s.Sets[i], a, src); err != nil {
				return fmt.Errorf("stage %s: %w", a.name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// makeDir makes a live directory that is missing, and its missing ancestors,
// with the owner and mode that the directory had where the snapshot was taken.
func (s *session) makeDir(a *artifact) (err error) {
	if a.at != nil {
		return nil
	}
	var missing []string
	for dir := a.dir; fsx.Nearest(dir) != dir; dir = filepath.Dir(dir) {
		missing = append([]string{dir}, missing...)
	}
	for _, dir := range missing {
		if err := s.makeOneDir(dir, a.root); err != nil {
			return err
		}
	}
	a.at, err = tree.Open(a.dir, s.owners)
	return err
}

func (s *session) makeOneDir(path string, root tree.Attributes) error {
	in, base, err := tree.OpenParent(path, s.owners)
	if err != nil {
		return err
	}
	defer in.Close()
	made, err := in.Mkdir(base, 0o700)
	if err != nil {
		return err
	}
	defer made.Close()
	root.MTime = time.Now()
	if err := made.SetAttributes(".", root, s.keepOwner); err != nil {
		return err
	}
	return errors.Join(made.Sync(), in.Sync())
}

// discard undoes prepare: what was made beside live data goes, then the journal.
func (s *session) discard() error {
	err := s.clear()
	if err == nil {
		err = s.remove()
	}
	if err != nil {
		return s.stuck(err)
	}
	return nil
}

// clear removes what this restore made beside live data.
func (s *session) clear() error {
	err := s.removeWorkspaces()
	for _, dir := range s.MadeDirs {
		if err != nil {
			break
		}
		err = removeEmpty(dir, s.owners)
	}
	return err
}

// removeEmpty removes a directory that this restore made, unless somebody has
// put something into it.
func removeEmpty(dir string, owners tree.Owners) error {
	in, base, err := tree.OpenParent(dir, owners)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Lstat(base)
	if isMissing(err) || err == nil && !info.IsDir() {
		return nil
	}
	if err == nil {
		err = in.Remove(base)
	}
	if errors.Is(err, unix.ENOTEMPTY) || isMissing(err) {
		return nil
	}
	return errors.Join(err, in.Sync())
}

// removeWorkspaces removes the copies. Nothing that was mounted on them since the
// restore began is entered.
func (s *session) removeWorkspaces() error {
	for _, work := range s.Workspaces {
		in, err := tree.Open(filepath.Dir(work), s.owners)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return err
		}
		// Mounted since the restore began: what is in it is not ours to delete.
		mounts, err := mountsBelow(work)
		if err == nil && len(mounts) > 0 {
			err = fmt.Errorf("%s is a mount point among the copies that are to be removed: unmount it", mounts[0])
		}
		if err == nil {
			err = in.RemoveAll(filepath.Base(work))
		}
		if err == nil {
			err = in.Sync()
		}
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

// finish removes the old copies of a committed restore, and the journal last.
func (s *session) finish() error {
	s.progress.Tell("clean up", 0, 0)
	err := s.removeWorkspaces()
	if err == nil {
		err = s.remove()
	}
	if err != nil {
		return s.stuck(err)
	}
	return nil
}

// stuck is the error of a restore that could be neither finished nor undone:
// its journal stands.
func (s *session) stuck(err error) error {
	hint := "remove the cause, then `atobackupd restore --resume` or `--abort`"
	switch {
	case errors.Is(err, errNoWorkspace):
		hint = "give it up with `atobackupd restore --abort --force`, then restore " + s.nextBest()
	case s.Phase == PhaseAnchoring:
		hint = "the store is restored and may be used; remove the cause, then `atobackupd restore --resume` saves " +
			"what was live before " +
			"(with --no-pre-snapshot it drops it)"
	case s.Phase == PhaseCommitted:
		hint = "the store is restored; remove the cause, then `atobackupd restore --resume` removes the old copies"
	}
	return &failure.Error{Op: "restore", Subject: string(s.Stamp), Err: err, Hint: hint}
}

// nextBest names the snapshot to restore when this restore is given up.
func (s *session) nextBest() string {
	if s.PreRestoreSnapshot != "" {
		return s.PreRestoreSnapshot + ", which holds what was live before"
	}
	return string(s.Stamp) + " again, or the newest one"
}

// errNoWorkspace is of a journal whose copies somebody has deleted.
var errNoWorkspace = errors.New("the copies that the restore made beside the live store are gone")

// kept lists what this restore moved aside and what stays; of one that was taken
// over, what lies there.
func (s *session) kept() (paths []string) {
	if !s.resumed {
		return s.setAsidePaths
	}
	seen := map[string]bool{}
	for _, t := range s.Sets {
		dir := keptDir(t.Dir, s.Stamp)
		if seen[dir] || t.live == nil {
			continue
		}
		seen[dir] = true
		kept, err := t.live.OpenDir(keptName(s.Stamp))
		if err != nil {
			continue
		}
		for info, err := range kept.Entries() {
			if err == nil {
				paths = append(paths, filepath.Join(dir, info.Name))
			}
		}
		kept.Close()
	}
	return paths
}

// reportKept tells what somebody else made during the restore.
func (s *session) reportKept() {
	for _, path := range s.kept() {
		s.warn(
			"%s was made or written to by somebody else during the restore; it was moved aside and is yours to look at",
			path,
		)
	}
}
