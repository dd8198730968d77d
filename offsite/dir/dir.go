// Package dir is an offsite.Remote on a local directory: a disk that is mounted
// here, or a vault seen from the machine it lies on.
//
// Others write there too: the account that a host ships to, whoever has the disk
// at other times. So the directory is resolved once and everything below it is
// done by handle (package internal/fsx/tree): no symbolic link is followed, and a
// directory that is exchanged for one meanwhile leads nowhere. What Put, Move and
// Remove report as done survives a power cut as far as the disk keeps its promise
// to flush.
package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
)

// Permissions of what is made here: a vault is its owner's business, and an object
// never changes. On an append-only account it must not: who can open one of the
// account's own files for writing can write over it in place.
const (
	dirMode  = 0o700
	fileMode = 0o400
)

// Remote is a directory as an offsite.Remote.
type Remote struct {
	path    string      // for messages only
	publish []publisher // ways to give a file its final name, best first

	making sync.Mutex // held while a directory is made

	mu   sync.RWMutex // of root: no handle may be closed while one is opened through it
	root *tree.Dir
}

var _ offsite.Remote = (*Remote)(nil)

// Open returns the Remote on an existing directory. A link in its path is followed
// only where none but owners can change it. A missing directory is of kind
// NotFound and is not made: most likely its disk is not mounted, and a vault that
// was made in the empty mount point would fill the wrong disk.
func Open(path string, owners tree.Owners) (*Remote, error) {
	root, err := openRoot(path, owners)
	if err != nil {
		return nil, explain("open vault directory", path, err,
			"mount its disk: `mount -a`; or correct the path")
	}
	return newRemote(path, root), nil
}

func openRoot(path string, owners tree.Owners) (*tree.Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return tree.Open(path, owners)
}

func newRemote(path string, root *tree.Dir) *Remote {
	return &Remote{path: path, root: root, publish: publishers}
}

// Create is Open for a directory that may be missing: it is made, durably and
// with the parents it needs.
func Create(path string, owners tree.Owners) (*Remote, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	root, err := tree.OpenOrMake(absolute, owners, dirMode)
	if err != nil {
		return nil, explain("make vault directory", path, err, "")
	}
	return newRemote(path, root), nil
}

// openDir opens a directory for one operation. What root makes in it belongs to
// the directory's owner: the account that serves the vault must be able to read it.
func (r *Remote) openDir(name string) (*tree.Dir, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d, err := r.root.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return d.GiveToOwner()
}

// openParent opens the directory that holds an object.
func (r *Remote) openParent(name string) (d *tree.Dir, base string, err error) {
	d, err = r.openDir(path.Dir(name))
	return d, path.Base(name), err
}

// MakeDirs makes directories that are missing, durably.
func (r *Remote) MakeDirs(names ...string) error {
	for _, name := range names {
		d, err := r.makeDir(name)
		if err != nil {
			return r.explain("make", name, err)
		}
		d.Close()
	}
	return nil
}

// MakeReadOnly takes the permission to write from objects that an earlier version
// or a copy has left with it. Those that are missing are passed over.
func (r *Remote) MakeReadOnly(names ...string) error {
	for _, name := range names {
		err := r.makeReadOnly(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r.explain("make read-only", name, err)
		}
	}
	return nil
}

func (r *Remote) makeReadOnly(name string) error {
	f, err := r.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode().Perm()&0o222 == 0 {
		return err
	}
	return f.Chmod(info.Mode().Perm() &^ 0o222)
}

// makeDir opens a directory, and makes it where it is missing. One at a time: who has
// just made a directory proves that it is empty, before another puts anything in it.
func (r *Remote) makeDir(name string) (*tree.Dir, error) {
	r.making.Lock()
	defer r.making.Unlock()
	return r.openOrMakeDir(name)
}

func (r *Remote) openOrMakeDir(name string) (*tree.Dir, error) {
	d, err := r.openDir(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	parent, err := r.openOrMakeDir(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return parent.MkdirAll(path.Base(name), dirMode)
}

// List returns the entries of one directory, sorted by name.
func (r *Remote) List(ctx context.Context, dir string) ([]offsite.Entry, error) {
	if err := r.check(ctx, "list", dir); err != nil {
		return nil, err
	}
	entries, err := r.list(ctx, dir)
	return entries, r.explain("list", dir, err)
}

func (r *Remote) list(ctx context.Context, dir string) ([]offsite.Entry, error) {
	ctx, end := context.WithTimeout(ctx, offsite.ListTimeout)
	defer end()
	d, err := r.openDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var listing offsite.Listing
	for info, err := range d.Entries() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = listing.Add(entryOf(info))
		}
		if err != nil {
			return nil, err
		}
	}
	return listing.Sorted(), nil
}

func entryOf(info tree.Info) offsite.Entry {
	return offsite.Entry{
		Name: info.Name, Size: info.Size, MTime: info.MTime, Dir: info.IsDir(), Other: !info.IsDir() && info.Type != 0,
	}
}

// Stat describes one object, a symbolic link as itself.
func (r *Remote) Stat(ctx context.Context, name string) (offsite.Entry, error) {
	if err := r.check(ctx, "stat", name); err != nil {
		return offsite.Entry{}, err
	}
	info, err := r.lstat(name)
	return entryOf(info), r.explain("stat", name, err)
}

func (r *Remote) lstat(name string) (tree.Info, error) {
	d, base, err := r.openParent(name)
	if err != nil {
		return tree.Info{}, err
	}
	defer d.Close()
	return d.Lstat(base)
}

// Open reads an object from its first byte. Only regular files are objects.
func (r *Remote) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := r.check(ctx, "read", name); err != nil {
		return nil, err
	}
	f, err := r.open(name)
	if err != nil {
		return nil, r.explain("read", name, err)
	}
	return &object{File: f, remote: r, name: name, ctx: ctx}, nil
}

func (r *Remote) open(name string) (*os.File, error) {
	d, base, err := r.openParent(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.OpenFile(base)
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
	return r.explain("move", from+" to "+to, r.move(from, to))
}

func (r *Remote) move(from, to string) error {
	fromDir, fromBase, err := r.openParent(from)
	if err != nil {
		return err
	}
	defer fromDir.Close()
	info, err := fromDir.Lstat(fromBase)
	if err != nil {
		return err
	}
	toDir, err := r.makeDir(path.Dir(to))
	if err != nil {
		return err
	}
	defer toDir.Close()
	return r.rename(fromDir, fromBase, toDir, path.Base(to), info.ID)
}

// Remove deletes one object or empty directory durably.
func (r *Remote) Remove(ctx context.Context, name string) error {
	if err := r.check(ctx, "remove", name); err != nil {
		return err
	}
	return r.explain("remove", name, r.remove(name))
}

func (r *Remote) remove(name string) error {
	d, base, err := r.openParent(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Remove(base); err != nil {
		return err
	}
	return d.Sync()
}

// Free returns the bytes that this process may still write to the file system.
func (r *Remote) Free(ctx context.Context) (int64, error) {
	if err := r.check(ctx, "ask for free space", "."); err != nil {
		return 0, err
	}
	d, err := r.openDir(".")
	if err != nil {
		return 0, r.explain("ask for free space", ".", err)
	}
	defer d.Close()
	var vfs unix.Statfs_t
	if err := unix.Fstatfs(d.Fd(), &vfs); err != nil {
		return 0, r.explain("ask for free space", ".", err)
	}
	return int64(vfs.Bavail) * vfs.Bsize, nil
}

// Close ends the use of the directory.
func (r *Remote) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.root.Close()
}
