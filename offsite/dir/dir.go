// Package dir is an offsite.Remote on a local directory: a disk that is mounted
// here, or a vault seen from the machine it lies on.
//
// Nothing reaches outside the directory: every path goes through an os.Root, so
// symbolic links that lead out are refused and those that stay inside are
// followed. What Put, Move and Remove report as done survives a power cut as far
// as the disk keeps its promise to flush.
package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/offsite"
)

// Permissions of what is made here: a vault is its owner's business.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Remote is a directory as an offsite.Remote.
type Remote struct {
	path    string // for messages only
	root    *os.Root
	publish []publisher // ways to give a file its final name, best first
}

var _ offsite.Remote = (*Remote)(nil)

// Open gives the Remote on an existing directory. A missing one is of kind
// NotFound and is not made: most likely its disk is not mounted, and a vault
// that was made in the empty mount point would fill the wrong disk.
func Open(path string) (*Remote, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, explain("open vault directory", path, err,
			"mount its disk, or make a new vault with atobackupd vault init --dir "+path)
	}
	return &Remote{path: path, root: root, publish: publishers}, nil
}

// Create is Open for a directory that may be missing: it is made, durably and
// with the parents it needs.
func Create(path string) (*Remote, error) {
	if err := makeAll(path); err != nil {
		return nil, explain("make vault directory", path, err, "")
	}
	return Open(path)
}

// makeAll is os.MkdirAll that survives a power cut.
func makeAll(path string) error {
	path = filepath.Clean(path)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	} else if err == nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(parent)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// List gives the entries of one directory, sorted by name.
func (r *Remote) List(ctx context.Context, dir string) ([]offsite.Entry, error) {
	if err := r.check(ctx, "list", dir); err != nil {
		return nil, err
	}
	entries, err := r.list(dir)
	return entries, r.explain("list", dir, err)
}

func (r *Remote) list(dir string) ([]offsite.Entry, error) {
	d, err := r.openDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	infos, err := d.Readdir(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]offsite.Entry, 0, len(infos))
	for _, info := range infos {
		entries = append(entries, entryOf(info))
	}
	slices.SortFunc(entries, func(a, b offsite.Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func entryOf(info fs.FileInfo) offsite.Entry {
	return offsite.Entry{Name: info.Name(), Size: info.Size(), MTime: info.ModTime(), Dir: info.IsDir()}
}

// Stat describes one object, a symbolic link as itself.
func (r *Remote) Stat(ctx context.Context, name string) (offsite.Entry, error) {
	if err := r.check(ctx, "stat", name); err != nil {
		return offsite.Entry{}, err
	}
	info, err := r.root.Lstat(name)
	if err != nil {
		return offsite.Entry{}, r.explain("stat", name, err)
	}
	return entryOf(info), nil
}

// Open reads an object from its first byte. Only regular files are objects.
func (r *Remote) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := r.check(ctx, "read", name); err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a FIFO that somebody put there would hold us forever.
	f, err := r.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, r.explain("read", name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, r.explain("read", name, err)
	}
	return &object{File: f, remote: r, name: name, ctx: ctx}, nil
}

// object reads a file until its context ends.
type object struct {
	*os.File
	remote *Remote
	name   string
	ctx    context.Context
}

func (o *object) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := o.File.Read(p)
	if err != nil && err != io.EOF {
		err = o.remote.explain("read", o.name, err)
	}
	return n, err
}

// WriteTo hides the file's own, which would not look at the context.
func (o *object) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{o})
}

// Move renames an object durably and never replaces one. Missing parents of the
// new name are made.
func (r *Remote) Move(ctx context.Context, from, to string) error {
	for _, name := range []string{from, to} {
		if err := r.check(ctx, "move", name); err != nil {
			return err
		}
	}
	if _, err := r.root.Lstat(from); err != nil {
		return r.explain("move", from, err)
	}
	if err := r.makeParents(to); err != nil {
		return r.explain("move", to, err)
	}
	return r.explain("move", from+" to "+to, r.rename(from, to))
}

// Remove deletes one object or empty directory durably.
func (r *Remote) Remove(ctx context.Context, name string) error {
	if err := r.check(ctx, "remove", name); err != nil {
		return err
	}
	err := r.root.Remove(name)
	if err == nil {
		err = r.syncParent(name)
	}
	return r.explain("remove", name, err)
}

// Free gives the bytes that this process may still write to the file system.
func (r *Remote) Free(ctx context.Context) (int64, error) {
	if err := r.check(ctx, "ask for free space", "."); err != nil {
		return 0, err
	}
	d, err := r.root.Open(".")
	if err != nil {
		return 0, r.explain("ask for free space", ".", err)
	}
	defer d.Close()
	var vfs unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &vfs); err != nil {
		return 0, r.explain("ask for free space", ".", err)
	}
	return int64(vfs.Bavail) * vfs.Bsize, nil
}

// Close ends the use of the directory.
func (r *Remote) Close() error { return r.root.Close() }
