package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// session is one restore on its way, in this process or taken over from one
// that was killed.
type session struct {
	*Journal
	share     bool
	keepOwner bool // false: --force, and this process may not give files away
	report    Progress
	warnings  []string
	places    *places
}

// openTarget opens the directories that a target works in; with make its
// workspace too, where that is missing.
func (s *session) openTarget(t *Target, make bool) (err error) {
	if t.live, err = s.places.dir(t.Dir); err != nil {
		return err
	}
	work, err := s.places.ours(filepath.Dir(t.Work), make)
	if err == nil {
		t.workHandle = work.ProcPath(filepath.Base(t.Work))
	}
	return err
}

// openTargets is openTarget for those of a journal that is taken up again. A
// workspace that is gone already is no error.
func (s *session) openTargets() error {
	for _, t := range s.Targets {
		if err := s.openTarget(t, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s *session) progress(step string, bytes int64) {
	if s.report != nil {
		s.report(step, bytes)
	}
}

func (s *session) warn(format string, args ...any) {
	s.warnings = append(s.warnings, shown(fmt.Sprintf(format, args...)))
}

// close lets go of the directories, and returns err in words that people know.
func (s *session) close(res *Result, err error) error {
	err = named(err)
	res.Warnings = append(res.Warnings, s.warnings...)
	s.places.close()
	return err
}

// begin writes the journal for what prepare is going to make beside live data.
func begin(r *Request, parts []part, preRestore string) (*session, error) {
	s := &session{
		Journal: &Journal{
			Schema: journalSchema, Phase: PhaseStaging, Stamp: r.Stamp, Source: r.Source, Snapshot: r.dir(),
			PreRestoreSnapshot: preRestore, StartedAt: time.Now().UTC().Truncate(time.Second), Live: r.Live,
			NoChroma: r.NoChroma, ForceChroma: r.ForceChroma, AllowInvalid: r.AllowInvalid, Exact: r.exact, Managed: r.Service != nil,
			Workspaces: []string{}, MadeDirs: []string{}, Targets: []*Target{},
			path: r.journalPath(),
		},
		share: r.Share, keepOwner: !r.Force || hasChown(), report: r.Progress, places: newPlaces(r.owners()),
	}
	if r.StateDir != "" {
		d, err := tree.OpenOrMake(r.StateDir, r.owners(), 0o700)
		if err != nil {
			return nil, err
		}
		d.Close()
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
	made, err := tree.OpenOrMake(p.dir, s.places.owners, 0o700)
	if err != nil {
		return err
	}
	made.Close()
	for _, dir := range missing {
		d, err := s.places.dir(dir)
		if err != nil {
			return err
		}
		a := tree.Attributes{UID: root.UID, GID: root.GID, Mode: root.Mode & 0o777, MTime: time.Now()}
		if err := errors.Join(d.SetAttributes(".", a, s.keepOwner), d.Sync()); err != nil {
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
		err = s.places.removeEmpty(dir)
	}
	return err
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
		if !strings.HasPrefix(filepath.Base(work), workPrefix) {
			return fmt.Errorf("%s is no workspace of a restore", work)
		}
		if err := s.places.remove(work); err != nil {
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
