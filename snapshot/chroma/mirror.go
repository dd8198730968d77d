package chroma

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// mirror is a copy in the making that knows of every file what it looked like
// when it was copied, so that it can be brought up to date by copying only what
// has moved, and can prove that nothing has.
type mirror struct {
	src   *tree.Dir
	dst   string
	share bool
	skip  func(path string) bool // what is not copied as a file
	have  map[string]Entry       // what dst holds, as its source looked
	order []string               // the paths of have, parents first

	stored func(context.Context, Entry, *os.File) string // see Options.Stored
	linked map[string]bool                               // the files that are other names of stored ones
}

// newMirror begins an empty copy: dst must not exist.
func newMirror(src *tree.Dir, dst string, share bool, skip func(string) bool) (*mirror, error) {
	if err := fsx.Announce(fsx.OpMkdir, dst); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dst, 0o700); err != nil {
		return nil, err
	}
	return &mirror{
		src: src, dst: dst, share: share, skip: skip, have: map[string]Entry{}, linked: map[string]bool{},
	}, nil
}

func (m *mirror) path(name string) string { return filepath.Join(m.dst, filepath.FromSlash(name)) }

// scan lists the source without what is skipped.
func (m *mirror) scan() ([]Entry, error) {
	all, err := Walk(m.src)
	kept := all[:0]
	for _, e := range all {
		if !m.skip(e.Path) {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// update makes the copy hold what the source looked like in seen. A file that
// has changed or gone meanwhile is left out; changed will name it.
func (m *mirror) update(ctx context.Context, seen []Entry) error {
	if err := m.drop(seen); err != nil {
		return err
	}
	m.order = m.order[:0]
	for _, e := range seen {
		m.order = append(m.order, e.Path)
		if held, ok := m.have[e.Path]; ok && held.unchanged(e) {
			m.have[e.Path] = e // its owner or mode may be new
			continue
		}
		if err := m.add(ctx, e); errors.Is(err, fs.ErrNotExist) || errors.Is(err, errMoved) {
			continue
		} else if err != nil {
			return err
		}
		m.have[e.Path] = e
	}
	return nil
}

// drop removes from the copy what seen does not have or has otherwise.
func (m *mirror) drop(seen []Entry) error {
	wanted := make(map[string]Entry, len(seen))
	for _, e := range seen {
		wanted[e.Path] = e
	}
	for i := len(m.order) - 1; i >= 0; i-- {
		name := m.order[i]
		held, ok := m.have[name]
		if !ok || held.unchanged(wanted[name]) {
			continue
		}
		// A directory that became something else has lost its children before.
		if err := os.Remove(m.path(name)); err != nil {
			return err
		}
		delete(m.have, name)
	}
	return nil
}

// errMoved is of a file that is no longer the one that was seen.
var errMoved = errors.New("replaced")

// add copies one entry. Modes and times come at the end.
func (m *mirror) add(ctx context.Context, e Entry) error {
	switch e.Type {
	case TypeDir:
		if err := fsx.Announce(fsx.OpMkdir, m.path(e.Path)); err != nil {
			return err
		}
		return os.Mkdir(m.path(e.Path), 0o700)
	case TypeSymlink:
		if err := fsx.Announce(fsx.OpLink, m.path(e.Path)); err != nil {
			return err
		}
		return os.Symlink(e.Target, m.path(e.Path))
	}
	return m.addFile(ctx, e)
}

func (m *mirror) addFile(ctx context.Context, e Entry) (err error) {
	in, err := m.src.OpenFile(e.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	if info, err := tree.FileInfo(in); err != nil {
		return err
	} else if now, err := newEntry(e.Path, info); err != nil || now.Inode != e.Inode || now.Device != e.Device {
		return errMoved
	}
	if m.link(ctx, e, in) {
		return nil
	}
	out, err := fsx.Create(m.path(e.Path), 0o600)
	if err != nil {
		return fmt.Errorf("copy %s: %v", e.Path, err) // not %w: it is no file of the source that is missing
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			os.Remove(m.path(e.Path))
		}
	}()
	_, err = fsx.CloneOrCopy(ctx, out, in, m.share)
	return err
}

// link makes an entry another name of a stored file, where one holds the same.
func (m *mirror) link(ctx context.Context, e Entry, in *os.File) bool {
	delete(m.linked, e.Path)
	if m.stored == nil {
		return false
	}
	path := m.stored(ctx, e, in)
	if path == "" || fsx.Announce(fsx.OpLink, m.path(e.Path)) != nil || os.Link(path, m.path(e.Path)) != nil {
		return false // too many links, perhaps
	}
	m.linked[e.Path] = true
	return true
}

// own makes an entry that may be linked a file of its own, to be written to.
func (m *mirror) own(ctx context.Context, e Entry) error {
	if !m.linked[e.Path] {
		return nil
	}
	if err := os.Remove(m.path(e.Path)); err != nil {
		return err
	}
	m.stored = nil
	return m.addFile(ctx, e)
}

// changed names what the copy lacks or holds otherwise than the source looks in
// seen; "" when they are the same.
func (m *mirror) changed(seen []Entry) string {
	for _, e := range seen {
		if held, ok := m.have[e.Path]; !ok || !held.unchanged(e) {
			return e.Path + " was written meanwhile"
		}
	}
	if len(seen) != len(m.have) {
		return "files vanished meanwhile"
	}
	return ""
}

// finish gives everything the modes and times of the source and makes it
// durable, the name of dst included.
func (m *mirror) finish(extra ...Entry) error {
	var dirs []Entry
	for _, e := range append(m.entries(), extra...) {
		var err error
		switch e.Type {
		case TypeFile:
			if !m.linked[e.Path] {
				err = m.seal(e)
			}
		case TypeSymlink:
			err = setTimes(m.path(e.Path), e.MTime)
		case TypeDir:
			dirs = append(dirs, e)
		}
		if err != nil {
			return err
		}
	}
	top, err := m.src.Info()
	if err != nil {
		return err
	}
	root, err := newEntry(".", top)
	if err != nil {
		return err
	}
	dirs = append([]Entry{root}, dirs...)
	for i := len(dirs) - 1; i >= 0; i-- { // deepest first: a child changes its parent's time
		if err := m.seal(dirs[i]); err != nil {
			return err
		}
	}
	return fsx.SyncDir(filepath.Dir(m.dst))
}

// seal sets mode and time of one file or directory and fsyncs it. It is opened
// before its mode may forbid that.
func (m *mirror) seal(e Entry) (err error) {
	f, err := os.OpenFile(m.path(e.Path), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	mode := e.Mode.Perm()
	if e.Type == TypeFile {
		mode = mode&^0o022 | 0o400 // nobody else changes a stored file
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := setTimes(m.path(e.Path), e.MTime); err != nil {
		return err
	}
	return fsx.Sync(f)
}

func setTimes(path string, mtime time.Time) error {
	t := unix.NsecToTimespec(mtime.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}

// entries returns what was copied, as its source looked.
func (m *mirror) entries() []Entry {
	var all []Entry
	for _, name := range m.order {
		if e, ok := m.have[name]; ok {
			all = append(all, e)
		}
	}
	return all
}

// isSidecar reports whether a path is one of SQLite's files beside the database.
func isSidecar(path string) bool {
	suffix, ok := strings.CutPrefix(path, databaseName)
	return ok && (suffix == "-journal" || suffix == "-wal" || suffix == "-shm")
}
