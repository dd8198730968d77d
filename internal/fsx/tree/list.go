package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// batch is how many names are read at a time.
const batch = 1024

// MaxEntries is how many entries of one directory are listed at most; more is an
// error, so that a directory full of names costs no memory without end.
const MaxEntries = 4 << 20

// Names yields the names of the entries, in the directory's order.
func (d *Dir) Names() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		// A description of its own, for the offset in the directory belongs to it.
		fd, err := d.openat("open", ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			yield("", err)
			return
		}
		f := os.NewFile(uintptr(fd), d.path)
		defer f.Close()
		for count := 0; ; {
			list, err := f.Readdirnames(batch)
			for _, name := range list {
				if !yield(name, nil) {
					return
				}
			}
			if count += len(list); err == nil && count > MaxEntries {
				err = d.err("list", ".", fmt.Errorf("has more than %d entries", MaxEntries))
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield("", err)
				return
			}
		}
	}
}

// Entries yields the entries of the directory in its own order, in batches, so
// that it costs no memory. What is removed meanwhile is left out. An error ends
// it, except for an entry that cannot be described: that one is named in its Info
// and the listing goes on.
func (d *Dir) Entries() iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for name, err := range d.Names() {
			info := Info{Name: name}
			if err == nil {
				info, err = d.Lstat(name)
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				info.Name = name
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// MaxDepth is how deep Walk goes; a deeper tree is an error.
const MaxDepth = 200

// Node is an entry that Walk has come to.
type Node struct {
	Info
	Path string // relative to the directory that is walked
	In   *Dir   // the directory that holds it, open until the visit ends
}

// Open opens the regular file that the node describes, and fails with
// ErrSwapped where its name leads to another by now.
func (n Node) Open() (*os.File, error) {
	f, err := n.In.OpenFile(n.Name)
	if err != nil {
		return nil, err
	}
	if info, err := FileInfo(f); err != nil || info.ID != n.ID {
		f.Close()
		return nil, errors.Join(err, n.In.err("open", n.Name, ErrSwapped))
	}
	return f, nil
}

// Walk calls visit for everything below d, a directory before what is in it, in
// the directories' own order. It follows no link. With mounts it enters other
// mounts too. fs.SkipDir from visit leaves a directory out, fs.SkipAll ends the
// walk. What cannot be read is visited again with its error, which visit may
// return, or swallow to go on.
func (d *Dir) Walk(mounts bool, visit func(n Node, err error) error) error {
	err := d.walk(".", mounts, 0, visit)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func (d *Dir) walk(prefix string, mounts bool, depth int, visit func(Node, error) error) error {
	for info, err := range d.Entries() {
		n := Node{Info: info, Path: path.Join(prefix, info.Name), In: d}
		err = visit(n, err)
		if errors.Is(err, fs.SkipDir) {
			continue
		}
		if err != nil {
			return err
		}
		if !n.IsDir() {
			continue
		}
		if err := d.walkInto(n, mounts, depth, visit); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) walkInto(n Node, mounts bool, depth int, visit func(Node, error) error) error {
	again := func(err error) error {
		if err = visit(n, err); errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	if depth == MaxDepth {
		return again(d.err("walk", n.Name, errors.New("is nested too deeply")))
	}
	open := d.OpenDir
	if !mounts {
		open = d.OpenDirSameMount
	}
	child, err := open(n.Name)
	if err == nil && child.id != n.ID {
		child.Close()
		err = d.err("open", n.Name, ErrSwapped)
	}
	if err != nil {
		return again(err)
	}
	defer child.Close()
	return child.walk(n.Path, mounts, depth+1, visit)
}
