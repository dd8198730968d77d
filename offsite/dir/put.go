package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
)

// Put stores src's bytes under name, durably, and never replaces an object.
func (r *Remote) Put(ctx context.Context, name string, src io.Reader) (n int64, err error) {
	if err := r.check(ctx, "store", name); err != nil {
		return 0, err
	}
	n, err = r.put(ctx, name, src)
	if err != nil {
		return 0, r.explain("store", name, err)
	}
	return n, nil
}

// put writes a file in incoming/ and moves it to its name.
func (r *Remote) put(ctx context.Context, name string, src io.Reader) (n int64, err error) {
	incoming, err := r.makeDir(offsite.IncomingDir)
	if err != nil {
		return 0, err
	}
	defer incoming.Close()
	to, err := r.makeDir(path.Dir(name))
	if err != nil {
		return 0, err
	}
	defer to.Close()
	// Publishing refuses this too; asking first saves the copying.
	if _, err := to.Lstat(path.Base(name)); err == nil {
		return 0, fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	f, temp, err := incoming.CreateTemp(path.Base(name)+".*", fileMode)
	if err != nil {
		return 0, err
	}
	defer func() {
		// Whatever went wrong, a partial is worth nothing: the same bytes
		// encrypt differently the next time.
		if err != nil {
			if e := incoming.Remove(temp); !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}()
	n, err = write(ctx, f, path.Ext(name) == ".age", src)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	info, err := tree.FileInfo(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return n, r.rename(incoming, temp, to, path.Base(name), info.ID)
}

// write fills a new file and returns once its bytes are on the disk.
func write(ctx context.Context, f *os.File, sealed bool, src io.Reader) (n int64, err error) {
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
	return n, fsx.Sync(f)
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
