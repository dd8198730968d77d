package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// session is one restore on its way, in this process or taken over from one
// that was killed.
type session struct {
	*Journal
	share     bool
	keepOwner bool // false: --force, and this process may not give files away
	report    Progress
	warnings  []string
}

func (s *session) progress(step string, bytes int64) {
	if s.report != nil {
		s.report(step, bytes)
	}
}

func (s *session) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// begin writes the journal for what prepare is going to make beside live data.
func begin(r *Request, parts []part, preRestore string) (*session, error) {
	s := &session{
		Journal: &Journal{
			Schema: journalSchema, Phase: PhaseStaging, Stamp: r.Stamp, Source: r.Source, Snapshot: r.dir(),
			PreRestoreSnapshot: preRestore, StartedAt: time.Now().UTC().Truncate(time.Second), Live: r.Live,
			NoChroma: r.NoChroma, ForceChroma: r.ForceChroma, AllowInvalid: r.AllowInvalid, Exact: r.exact, Managed: r.Service != nil,
			Workspaces: []string{}, MadeDirs: []string{}, Targets: []*Target{},
			path: filepath.Join(r.Store.Dir(), JournalFile),
		},
		share: r.Share, keepOwner: !r.Force || hasChown(), report: r.Progress,
	}
	seen := map[string]bool{}
	for _, p := range parts {
		work := workDir(p.dir, r.Stamp)
		if seen[work] {
			continue
		}
		seen[work] = true
		s.Workspaces = append(s.Workspaces, work)
		for dir := p.dir; nearest(dir) != dir && !seen["made "+dir]; dir = filepath.Dir(dir) {
			seen["made "+dir] = true
			s.MadeDirs = append(s.MadeDirs, dir) // deepest first
		}
	}
	return s, s.write()
}

// prepare makes the missing live directories and fills the workspaces. The live
// store stays untouched. On an error everything is as before.
func (s *session) prepare(ctx context.Context, parts []part, src *source) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discard())
		}
	}()
	s.Targets = []*Target{}
	for _, p := range parts {
		if err := s.makeDir(p, src); err != nil {
			return err
		}
		t, err := s.stage(ctx, p, src)
		if err != nil {
			return fmt.Errorf("stage %s: %w", p.artifact, err)
		}
		s.Targets = append(s.Targets, t)
	}
	return ctx.Err()
}

// makeDir makes a live directory that is missing, and its missing ancestors,
// with the owner and mode that the directory had where the snapshot was taken.
func (s *session) makeDir(p part, src *source) error {
	if _, err := os.Stat(p.dir); err == nil {
		return nil
	}
	root, err := rootOf(p, src)
	if err != nil {
		return err
	}
	var missing []string
	for dir := p.dir; nearest(dir) != dir; dir = filepath.Dir(dir) {
		missing = append([]string{dir}, missing...)
	}
	if err := fsx.MkdirAll(p.dir, os.FileMode(root.Mode&0o777)); err != nil {
		return err
	}
	for _, dir := range missing {
		a := attributes{uid: root.UID, gid: root.GID, mode: root.Mode, mtime: time.Now()}
		if err := a.apply(dir, s.keepOwner); err != nil {
			return err
		}
		if err := fsx.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// discard undoes prepare: what was made beside live data goes, then the journal.
func (s *session) discard() error {
	err := s.clear()
	if err == nil {
		err = fsx.RemoveAll(s.path)
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
		err = removeEmpty(dir)
	}
	return err
}

// removeEmpty removes a directory that this restore made, unless somebody has
// put something into it.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) || err == nil && len(entries) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return fsx.RemoveAll(dir)
}

func (s *session) removeWorkspaces() error {
	for _, work := range s.Workspaces {
		if _, err := os.Lstat(work); os.IsNotExist(err) {
			continue
		}
		// Mounted since the restore began: what is in it is not ours to delete.
		mounts, err := mountsBelow(work)
		if err != nil {
			return err
		}
		if len(mounts) > 0 {
			return fmt.Errorf("%s is a mount point among the copies that are to be removed: unmount it", mounts[0])
		}
		if err := fsx.RemoveAll(work); err != nil {
			return err
		}
	}
	return nil
}

// finish removes the old copies of a committed restore, and the journal last.
func (s *session) finish() error {
	s.progress("clean up", 0)
	err := s.removeWorkspaces()
	if err == nil {
		err = fsx.RemoveAll(s.path)
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
	if s.Phase == PhaseCommitted {
		hint = "the store is restored; remove the cause, then `atobackupd restore --resume` removes the old copies"
	}
	return &failure.Error{Op: "restore", Subject: string(s.Stamp), Err: err, Hint: hint}
}
