package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/atocore/atobackupd/offsite"
)

// Put stores src's bytes under name, durably, and never replaces an object.
func (r *Remote) Put(ctx context.Context, name string, src io.Reader) (n int64, err error) {
	if err := r.check(ctx, "store", name); err != nil {
		return 0, err
	}
	temp := path.Join(offsite.IncomingDir, path.Base(name)+"."+rand.Text())
	n, err = r.put(ctx, temp, name, src)
	if err != nil {
		// Whatever went wrong, a partial is worth nothing: the same bytes
		// encrypt differently the next time.
		if e := r.root.Remove(temp); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return 0, r.explain("store", name, err)
	}
	return n, nil
}

// put writes temp and gives it its name.
func (r *Remote) put(ctx context.Context, temp, name string, src io.Reader) (int64, error) {
	// Publishing refuses this too; asking first saves the copying.
	if _, err := r.root.Lstat(name); err == nil {
		return 0, fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, n := range []string{temp, name} {
		if err := r.makeParents(n); err != nil {
			return 0, err
		}
	}
	n, err := r.write(ctx, temp, path.Ext(name) == ".age", src)
	if err != nil {
		return 0, err
	}
	return n, r.rename(temp, name)
}

// write fills a new file and returns once its bytes are on the disk.
func (r *Remote) write(ctx context.Context, temp string, sealed bool, src io.Reader) (n int64, err error) {
	f, err := r.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// The struct hides File.ReadFrom, which would look for shortcuts that
	// src cannot offer and allocate a buffer of its own.
	n, err = io.CopyBuffer(struct{ io.Writer }{f}, &source{ctx, src}, make([]byte, 256<<10))
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() != n {
		return 0, fmt.Errorf("wrote %d bytes, but the file has %d", n, info.Size())
	}
	if sealed {
		if err := offsite.CheckSealed(f); err != nil {
			return 0, err
		}
	}
	return n, f.Sync()
}

// source reads src until the context ends.
type source struct {
	ctx context.Context
	src io.Reader
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.src.Read(p)
}

// makeParents makes the directories above name, each durably.
func (r *Remote) makeParents(name string) error {
	dir := path.Dir(name)
	if info, err := r.root.Stat(dir); err == nil && info.IsDir() {
		return nil
	} else if err == nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.makeParents(dir); err != nil {
		return err
	}
	if err := r.root.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return r.syncParent(dir)
}

// syncParent makes name's entry in its directory durable.
func (r *Remote) syncParent(name string) error {
	d, err := r.openDir(path.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openDir opens a directory, and nothing else, for listing and for calls that
// are relative to it.
func (r *Remote) openDir(dir string) (*os.File, error) {
	return r.root.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
}
