package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

// Open opens the directory at a configured path. The path is resolved once, from
// the top, element by element: a symbolic link is followed where it and every
// directory above it belong to one of the owners and nobody else can write there;
// any other link is refused with ErrSymlink. Directories that somebody else owns
// are gone through.
func Open(path string, owners Owners) (*Dir, error) {
	dir, base, err := OpenParent(path, owners)
	if err != nil {
		return nil, err
	}
	if base == "." {
		return dir, nil
	}
	defer dir.Close()
	return dir.OpenDir(base)
}

// OpenParent opens the directory that holds the last element of a configured
// path, and returns the element's name, links resolved as Open does. The element
// itself may be missing, or be anything but a link. The name is "." for the root
// directory.
func OpenParent(path string, owners Owners) (dir *Dir, base string, err error) {
	r := resolver{owners: owners}
	return r.parent(path)
}

// OpenOrMake is Open that makes the directory, and those above it that are
// missing, durably, with the given permissions.
func OpenOrMake(path string, owners Owners, perm fs.FileMode) (*Dir, error) {
	d, err := Open(path, owners)
	if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
		return d, err
	}
	parent, err := OpenOrMake(filepath.Dir(path), owners, perm)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return parent.openOrMkdir(filepath.Base(path), perm)
}

// CheckPlace fails with ErrSwapped unless d is still what its path leads to.
func (d *Dir) CheckPlace(owners Owners) error {
	now, err := Open(d.path, owners)
	if err != nil {
		return err
	}
	defer now.Close()
	if now.id != d.id {
		return d.err("check", ".", ErrSwapped)
	}
	return nil
}

// resolver walks a path from the top.
type resolver struct {
	owners  Owners
	follow  bool          // follow links that are not private too
	offence func(Offence) // told of what is not private; may be nil

	stack []*Dir // the directories from the top to where it is
	clean int    // how many of them are private, from the top
}

// maxLinks is how many links a path may lead through, as in the kernel.
const maxLinks = 40

func (r *resolver) parent(path string) (dir *Dir, base string, err error) {
	if !filepath.IsAbs(path) {
		return nil, "", &fs.PathError{Op: "open", Path: path, Err: errors.New("is not an absolute path")}
	}
	defer func() {
		for _, d := range r.stack {
			d.Close()
		}
	}()
	if err := r.enter(nil, "/"); err != nil {
		return nil, "", err
	}
	base = "."
	links := 0
	for rest := elements(path); len(rest) > 0; {
		element := rest[0]
		rest = rest[1:]
		if element == ".." {
			r.leave()
			base = "."
			continue
		}
		at := r.top()
		info, err := at.Lstat(element)
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && len(rest) == 0) {
			return nil, "", err
		}
		if err == nil && info.IsLink() {
			if links++; links > maxLinks {
				return nil, "", at.err("open", element, errors.New("leads through too many symbolic links"))
			}
			target, err := r.link(info)
			if err != nil {
				return nil, "", err
			}
			if filepath.IsAbs(target) {
				r.leaveAll()
			}
			rest = append(elements(target), rest...)
			base = "."
			continue
		}
		if len(rest) == 0 {
			base = element
			break
		}
		if err := r.enter(at, element); err != nil {
			return nil, "", err
		}
	}
	// A path that ends in a link to its own directory, or in "..", names a
	// directory that is on the stack already: its name in the one above is wanted.
	if base == "." && len(r.stack) > 1 {
		base = filepath.Base(r.top().path)
		r.leave()
	}
	dir, err = r.top().reopen()
	return dir, base, err
}

// reopen opens a directory that was entered for its names once more, for work:
// what only leads somewhere cannot be synced. Where the caller may not read it,
// going through it has to do.
func (d *Dir) reopen() (*Dir, error) {
	dir, err := d.OpenDir(".")
	if !errors.Is(err, fs.ErrPermission) {
		return dir, err
	}
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, d.err("open", ".", err)
	}
	return newDir(fd, d.path, d.give)
}

// elements splits a path. ".." is kept: what it means depends on links before it.
func elements(path string) (list []string) {
	for element := range strings.SplitSeq(path, "/") {
		if element != "" && element != "." {
			list = append(list, element)
		}
	}
	return list
}

func (r *resolver) top() *Dir { return r.stack[len(r.stack)-1] }

func (r *resolver) leave() {
	if len(r.stack) > 1 { // ".." of the root is the root
		r.top().Close()
		r.stack = r.stack[:len(r.stack)-1]
		r.clean = min(r.clean, len(r.stack))
	}
}

func (r *resolver) leaveAll() {
	for len(r.stack) > 1 {
		r.leave()
	}
}

// enter opens a directory on the way, for which search permission is enough.
func (r *resolver) enter(at *Dir, name string) error {
	var fd int
	var err error
	path := "/"
	if at == nil {
		fd, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	} else {
		path = at.Name(name)
		fd, err = at.openat("open", name, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return err
	}
	d, err := newDir(fd, path, nil)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		d.Close()
		return err
	}
	if r.judge(fd, path, info, true) && r.clean == len(r.stack) {
		r.clean++
	}
	r.stack = append(r.stack, d)
	return nil
}

// judge reports whether an entry is private by itself, and tells of it where it
// is not.
func (r *resolver) judge(fd int, path string, info Info, above bool) bool {
	o := r.owners.judge(fd, path, info, above)
	if o != nil && r.offence != nil {
		r.offence(*o)
	}
	return o == nil
}

// link returns where a link in the topmost directory leads.
func (r *resolver) link(info Info) (string, error) {
	at := r.top()
	path := at.Name(info.Name)
	private := r.judge(-1, path, info, true)
	if !r.follow && (!private || r.clean != len(r.stack)) {
		return "", &failure.Error{Op: "open", Subject: path, Kind: failure.Refused,
			Err:  fmt.Errorf("%w, because somebody else could make it lead elsewhere", ErrSymlink),
			Hint: "configure the path that is meant, without the link"}
	}
	return at.Readlink(info.Name)
}

// quote makes a path one word of a shell.
func quote(path string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.ContainsRune("/._-+,:@%", c)
	}
	if path != "" && strings.TrimFunc(path, plain) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
