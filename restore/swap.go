package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// forward brings every set from wherever it is to all new. It may be repeated
// from any point; what it finds done it leaves.
func (s *session) forward(ctx context.Context) error {
	s.progress.Tell("swap", 0, 0)
	for _, t := range s.Sets {
		if err := s.forwardSet(ctx, t); err != nil {
			return fmt.Errorf("swap %s: %w", t.Artifact, err)
		}
	}
	return nil
}

func (s *session) forwardSet(ctx context.Context, t *swapSet) error {
	if err := t.stillThere(s.Stamp); err != nil {
		return err
	}
	if err := s.setAsideUnknown(t); err != nil {
		return err
	}
	for _, e := range t.Entries {
		if err := s.moveOldAside(t, e); err != nil {
			return err
		}
	}
	if err := t.sync(); err != nil {
		return err
	}
	if t.Leaves {
		if err := t.makeDirs(t.fresh); err != nil {
			return err
		}
	}
	for _, e := range t.Entries {
		if err := s.moveNewIn(ctx, t, e); err != nil {
			return err
		}
	}
	if t.Leaves {
		if err := t.matchDirs(t.fresh); err != nil {
			return err
		}
	}
	if t.Root != nil {
		if err := t.setRoot(t.Root.New, s.keepOwner); err != nil {
			return err
		}
	}
	if err := t.sync(); err != nil {
		return err
	}
	// What a service that was started in between has put beside the restored
	// files, such as a -wal, would be replayed into them.
	return s.setAsideNew(t)
}

// setRoot gives the live directory itself another owner and mode.
func (t *swapSet) setRoot(o ownership, owners bool) error {
	a, err := t.live.Attributes(".")
	if err != nil {
		return err
	}
	a.UID, a.GID, a.Mode = o.UID, o.GID, o.Mode
	return t.live.SetAttributes(".", a, owners)
}

// moveOldAside moves what stands at an entry's name aside.
func (s *session) moveOldAside(t *swapSet, e *swapEntry) error {
	if e.InPlace {
		return nil
	}
	at, err := inodeAt(t.live, e.Name)
	if err != nil || at == nil || at.sameInode(e.New) {
		return err
	}
	if at.sameInode(e.Old) {
		same, err := unchanged(t.live, e.Name, e.Old)
		if err != nil {
			return err
		}
		if same {
			if err := t.roomFor(t.old, e.Name); err != nil {
				return err
			}
			return t.live.Rename(e.Name, t.old, e.Name, tree.NoReplace)
		}
		// A service was started and has written to it since the swap was laid
		// down: no snapshot has that.
	}
	return s.setAside(t, t.live, e.Name)
}

// moveNewIn moves what an entry brings into its place.
func (s *session) moveNewIn(ctx context.Context, t *swapSet, e *swapEntry) error {
	if e.InPlace {
		return s.overwrite(ctx, t, e)
	}
	if e.New == nil {
		return nil
	}
	for try := 0; ; try++ {
		at, err := inodeAt(t.live, e.Name)
		if err != nil || at.sameInode(e.New) {
			return err
		}
		if at != nil {
			if err := s.setAside(t, t.live, e.Name); err != nil {
				return err
			}
		}
		if err = t.fresh.Rename(e.Name, t.live, e.Name, tree.NoReplace); !errors.Is(err, fs.ErrExist) || try == 10 {
			return err
		}
	}
}

// overwrite replaces the bytes of a file that no rename can replace. Between
// Begun and Done it may be torn; both copies are whole in the workspace.
func (s *session) overwrite(ctx context.Context, t *swapSet, e *swapEntry) error {
	if e.Done {
		return nil
	}
	if !e.Begun {
		same, err := unchanged(t.live, e.Name, e.Old)
		if err != nil {
			return err
		}
		if !same {
			if err := s.setCopyAside(ctx, t, e.Name); err != nil {
				return err
			}
		}
		// Opened before anything is announced: a mount that became read-only
		// leaves a file that was never written, and nothing to put back.
		f, err := t.live.OpenInPlace(e.Name)
		if err != nil {
			return err
		}
		f.Close()
		e.Begun = true
		if err := s.write(); err != nil {
			return err
		}
	}
	if err := overwriteInPlace(ctx, t.live, e.Name, t.fresh); err != nil {
		return err
	}
	now, err := identify(t.live, e.Name)
	if err != nil {
		return err
	}
	e.New, e.Done = now, true
	return s.write()
}

// overwriteInPlace replaces the content of a file by that of the file of the same
// name in from, durably; the file, its owner and its mode stay.
func overwriteInPlace(ctx context.Context, dir *tree.Dir, name string, from *tree.Dir) (err error) {
	in, err := from.OpenFile(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dir.OpenInPlace(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(0); err != nil {
		return err
	}
	// No reflink: overwriting shared blocks later can fail for lack of space.
	if _, err := fsx.CloneOrCopy(ctx, out, in, false); err != nil {
		return err
	}
	return fsx.Sync(out)
}

// setAsideUnknown moves the children of a Chroma directory aside that nobody
// knew when the journal was written.
func (s *session) setAsideUnknown(t *swapSet) error {
	if !t.Whole {
		return nil
	}
	known := make(map[string]bool, len(t.Entries))
	for _, e := range t.Entries {
		known[e.Name] = true
	}
	var unknown []string
	var err error
	if t.Leaves {
		err = walkLeaves(t.live, func(n tree.Node) {
			if !known[n.Path] {
				unknown = append(unknown, n.Path)
			}
		})
	} else {
		for info, listErr := range t.live.Entries() {
			if err = listErr; err != nil {
				break
			}
			if !known[info.Name] && !isExcluded(info.Name) {
				unknown = append(unknown, info.Name)
			}
		}
	}
	for _, name := range unknown {
		err = errors.Join(err, s.setAside(t, t.live, name))
	}
	return err
}

// setAsideNew moves aside what stands at names that bring nothing.
func (s *session) setAsideNew(t *swapSet) error {
	for _, e := range t.Entries {
		if e.New != nil {
			continue
		}
		if at, err := inodeAt(t.live, e.Name); err != nil {
			return err
		} else if at != nil {
			if err := s.setAside(t, t.live, e.Name); err != nil {
				return err
			}
		}
	}
	return s.setAsideUnknown(t)
}

// setAside moves something out of the way, to where it is reported and stays.
// What SQLite makes anew from nothing is removed instead: a -shm, an empty -wal.
func (s *session) setAside(t *swapSet, from *tree.Dir, name string) error {
	if info, err := from.Lstat(name); err == nil && info.IsRegular() &&
		(strings.HasSuffix(name, "-shm") || strings.HasSuffix(name, "-wal") && info.Size == 0) {
		return from.Remove(name)
	}
	kept, err := s.keptDir(t)
	if err != nil {
		return err
	}
	defer kept.Close()
	for n := 1; ; n++ {
		to := numbered(path.Base(name), n)
		if err := from.Rename(name, kept, to, tree.NoReplace); !errors.Is(err, fs.ErrExist) {
			s.noteKept(kept, to, err)
			return errors.Join(err, kept.Sync())
		}
	}
}

// setCopyAside is setAside for a file that cannot be moved.
func (s *session) setCopyAside(ctx context.Context, t *swapSet, name string) error {
	kept, err := s.keptDir(t)
	if err != nil {
		return err
	}
	defer kept.Close()
	for n := 1; ; n++ {
		to := numbered(name, n)
		if err := copyFile(ctx, kept, to, t.live, name, s.share); !errors.Is(err, fs.ErrExist) {
			s.noteKept(kept, to, err)
			return errors.Join(err, kept.SyncFileSystem())
		}
	}
}

// noteKept remembers what was moved aside, for the report.
func (s *session) noteKept(kept *tree.Dir, name string, err error) {
	if err == nil {
		s.setAsidePaths = append(s.setAsidePaths, kept.Name(name))
	}
}

// keptDir opens, or makes, the directory that outlives the restore.
func (s *session) keptDir(t *swapSet) (*tree.Dir, error) {
	return t.live.MkdirAll(keptName(s.Stamp), 0o700)
}

func numbered(name string, n int) string {
	if n > 1 {
		return fmt.Sprintf("%s.%d", name, n)
	}
	return name
}
