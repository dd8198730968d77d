package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// A restore works as root in directories that the application can write. Its
// paths are resolved once; from then on the live directories and the workspaces
// in them are held open, and every path that is used leads through a handle
// (/proc/self/fd/N/…): whatever the application puts in the place of one of
// them, the work goes on in the directory that was opened. A workspace belongs
// to the caller and is closed to everybody else, so that nobody can exchange
// anything inside it.

// places holds open what a session works in.
type places struct {
	owners tree.Owners
	open   map[string]*tree.Dir // by path
}

func newPlaces(owners tree.Owners) *places {
	if owners == nil {
		owners = tree.Trusted("")
	}
	return &places{owners: owners, open: map[string]*tree.Dir{}}
}

// dir opens a live directory, once.
func (p *places) dir(path string) (*tree.Dir, error) {
	if d := p.open[path]; d != nil {
		return d, nil
	}
	d, err := tree.Open(path, p.owners)
	if err == nil {
		p.open[path] = d
	}
	return d, err
}

// ours opens a directory of this program's own in the live directory that holds
// it, and makes it where make says so. One that somebody else has made is
// refused.
func (p *places) ours(path string, make bool) (*tree.Dir, error) {
	if d := p.open[path]; d != nil {
		return d, nil
	}
	parent, err := p.dir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	d, err := parent.OpenDir(name)
	if make && errors.Is(err, fs.ErrNotExist) {
		if d, err = parent.Mkdir(name, 0o700); err == nil {
			err = parent.Sync()
		}
	}
	if err != nil {
		return nil, err
	}
	info, err := d.Info()
	if err == nil && (!p.owners.Has(info.UID) || info.Mode&0o077 != 0) && os.Geteuid() == 0 {
		err = fmt.Errorf("%s was made by uid %d, not by a restore: remove it", path, info.UID)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	p.open[path] = d
	return d, nil
}

// remove removes a directory of this program's own with all that is in it.
func (p *places) remove(path string) error {
	parent, err := p.dir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if d := p.open[path]; d != nil {
		if err := parent.Expect(filepath.Base(path), d.ID()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		d.Close()
		delete(p.open, path)
	}
	return errors.Join(parent.RemoveAll(filepath.Base(path)), parent.Sync())
}

// removeEmpty removes a directory that this restore made, unless somebody has
// put something into it.
func (p *places) removeEmpty(path string) error {
	if d := p.open[path]; d != nil {
		d.Close()
		delete(p.open, path)
	}
	parent, err := tree.Open(filepath.Dir(path), p.owners)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	d, err := parent.OpenDir(filepath.Base(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for range d.Entries() {
		return nil
	}
	return errors.Join(parent.Remove(filepath.Base(path)), parent.Sync())
}

func (p *places) close() {
	for _, d := range p.open {
		d.Close()
	}
	clear(p.open)
}

// handle is the beginning of a path through a handle.
var handle = regexp.MustCompile(`/proc/self/fd/[0-9]+`)

// shown replaces, in a path or a text, the paths of handles by those of their
// directories: theirs tell a reader nothing.
func shown(text string) string {
	return handle.ReplaceAllStringFunc(text, func(fd string) string {
		if path, err := os.Readlink(fd); err == nil {
			return path
		}
		return fd
	})
}

// named returns err in words that people know.
func named(err error) error {
	if err == nil || !handle.MatchString(err.Error()) {
		return err
	}
	return namedError{err, shown(err.Error())}
}

// namedError is an error in other words.
type namedError struct {
	error
	text string
}

func (e namedError) Error() string { return e.text }
func (e namedError) Unwrap() error { return e.error }
