package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// forward brings every target from wherever it is to all new. It may be
// repeated from any point; what it finds done it leaves.
func (s *session) forward(ctx context.Context) error {
	s.progress("swap", 0)
	for _, t := range s.Targets {
		if err := s.forwardTarget(ctx, t); err != nil {
			return fmt.Errorf("swap %s: %w", t.Artifact, err)
		}
	}
	return nil
}

func (s *session) forwardTarget(ctx context.Context, t *Target) error {
	if err := s.keepStrangers(t); err != nil {
		return err
	}
	for _, slot := range t.Slots {
		if err := s.takeOut(t, slot); err != nil {
			return err
		}
	}
	if err := syncTarget(t); err != nil {
		return err
	}
	for _, slot := range t.Slots {
		if err := s.putIn(ctx, t, slot); err != nil {
			return err
		}
	}
	if err := syncTarget(t); err != nil {
		return err
	}
	// What a service that was started in between has put beside the restored
	// files, such as a -wal, would be replayed into them.
	return s.keepUninvited(t)
}

// takeOut moves what stands at a slot aside.
func (s *session) takeOut(t *Target, slot *Slot) error {
	if slot.InPlace {
		return nil
	}
	at, err := inodeAt(t.dest(slot.Name))
	if err != nil || at == nil || at.sameInode(slot.New) {
		return err
	}
	if at.sameInode(slot.Old) {
		same, err := unchanged(t.dest(slot.Name), slot.Old)
		if err != nil {
			return err
		}
		if same {
			return move(t.dest(slot.Name), t.aside(slot.Name))
		}
		// A service was started and has written to it since the restore began:
		// no snapshot has that.
	}
	return s.keep(t, t.dest(slot.Name))
}

// putIn moves what a slot brings into its place.
func (s *session) putIn(ctx context.Context, t *Target, slot *Slot) error {
	if slot.InPlace {
		return s.overwrite(ctx, t, slot)
	}
	if slot.New == nil {
		return nil
	}
	for try := 0; ; try++ {
		at, err := inodeAt(t.dest(slot.Name))
		if err != nil || at.sameInode(slot.New) {
			return err
		}
		if at != nil {
			if err := s.keep(t, t.dest(slot.Name)); err != nil {
				return err
			}
		}
		if err = move(t.staged(slot.Name), t.dest(slot.Name)); !errors.Is(err, fs.ErrExist) || try == 10 {
			return err
		}
	}
}

// overwrite replaces the bytes of a file that no rename can replace. Between
// Begun and Done it may be torn; both copies are whole in the workspace.
func (s *session) overwrite(ctx context.Context, t *Target, slot *Slot) error {
	if slot.Done {
		return nil
	}
	dest := t.dest(slot.Name)
	if !slot.Begun {
		same, err := unchanged(dest, slot.Old)
		if err != nil {
			return err
		}
		if !same {
			if err := s.keepCopy(ctx, t, dest); err != nil {
				return err
			}
		}
		slot.Begun = true
		if err := s.write(); err != nil {
			return err
		}
	}
	if err := pour(ctx, dest, t.staged(slot.Name)); err != nil {
		return err
	}
	now, err := identify(dest)
	if err != nil {
		return err
	}
	slot.New, slot.Done = now, true
	return s.write()
}

// pour replaces the content of dest by that of from, durably; the file, its
// owner and its mode stay.
func pour(ctx context.Context, dest, from string) (err error) {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := fsx.Announce(fsx.OpWrite, shown(dest)); err != nil {
		return err
	}
	out, err := openInPlace(dest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// No reflink: overwriting shared blocks later can fail for lack of space.
	if _, err := fsx.CloneOrCopy(ctx, out, in, false); err != nil {
		return err
	}
	return fsx.Sync(out)
}

// openInPlace empties a plain file with one name: another name of it may lie
// where the application cannot write.
func openInPlace(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := tree.FileInfo(f)
	switch {
	case err != nil:
	case !info.IsRegular():
		err = &os.PathError{Op: "open", Path: path, Err: tree.ErrNotRegular}
	case info.Links != 1:
		err = &os.PathError{Op: "open", Path: path, Err: tree.ErrHardLink}
	default:
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// keepStrangers moves the children of a Chroma directory aside that nobody
// knew when the journal was written.
func (s *session) keepStrangers(t *Target) error {
	if !t.Whole {
		return nil
	}
	entries, err := os.ReadDir(t.liveDir())
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(t.Slots))
	for _, slot := range t.Slots {
		known[slot.Name] = true
	}
	for _, e := range entries {
		if !known[e.Name()] && !leftAlone(e.Name()) {
			if err := s.keep(t, t.dest(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepUninvited moves aside what stands at slots that bring nothing.
func (s *session) keepUninvited(t *Target) error {
	for _, slot := range t.Slots {
		if slot.New != nil {
			continue
		}
		if at, err := inodeAt(t.dest(slot.Name)); err != nil {
			return err
		} else if at != nil {
			if err := s.keep(t, t.dest(slot.Name)); err != nil {
				return err
			}
		}
	}
	return s.keepStrangers(t)
}

// keep moves what somebody else made out of the way, to where it is reported
// and stays.
func (s *session) keep(t *Target, path string) error {
	for n := 1; ; n++ {
		to, err := s.keepName(t, filepath.Base(path), n)
		if err != nil {
			return err
		}
		if err := move(path, to); !errors.Is(err, fs.ErrExist) {
			return errors.Join(err, fsx.SyncDir(filepath.Dir(to)))
		}
	}
}

// keepCopy is keep for a file that cannot be moved.
func (s *session) keepCopy(ctx context.Context, t *Target, path string) error {
	for n := 1; ; n++ {
		to, err := s.keepName(t, filepath.Base(path), n)
		if err != nil {
			return err
		}
		if _, err := fsx.CopyFile(ctx, to, path, 0o600, s.share); !errors.Is(err, fs.ErrExist) {
			return errors.Join(err, fsx.SyncDir(filepath.Dir(to)))
		}
	}
}

func (s *session) keepName(t *Target, name string, n int) (string, error) {
	dir, err := s.places.ours(keptDir(t.Dir, s.Stamp), true)
	if err != nil {
		return "", err
	}
	if n > 1 {
		name = fmt.Sprintf("%s.%d", name, n)
	}
	return dir.ProcPath(name), nil
}

// move renames within one mount and never replaces. It is durable only after
// syncTarget: no step relies on a single one, and 100,000 fsyncs take minutes.
func move(from, to string) error {
	if err := fsx.Announce(fsx.OpRename, shown(to)); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system that cannot promise it
		if _, err := os.Lstat(to); err == nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
		}
		err = unix.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
