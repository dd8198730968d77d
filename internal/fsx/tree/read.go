package tree

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
)

// OpenFile opens a regular file for reading. A FIFO, which would block, a device
// or a directory is ErrNotRegular.
func (d *Dir) OpenFile(name string) (*os.File, error) {
	return d.openRegular(name, unix.O_RDONLY)
}

// OpenInPlace opens a file that exists for reading and writing, without
// truncating it: one that cannot be replaced by a rename, such as a file that is
// a mount point. Only a regular file with one name is opened: another name may
// lie where this tree's owner cannot write.
func (d *Dir) OpenInPlace(name string) (*os.File, error) {
	if err := fsx.Announce(fsx.OpWrite, d.Name(name)); err != nil {
		return nil, err
	}
	f, err := d.openRegular(name, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	if info, err := FileInfo(f); err != nil || info.Links != 1 {
		f.Close()
		return nil, errors.Join(err, d.err("open", name, ErrHardLink))
	}
	return f, nil
}

func (d *Dir) openRegular(name string, flags int) (*os.File, error) {
	// Looked at through a handle first: to open a device, or a FIFO for writing,
	// may have effects of its own.
	path, err := d.openat("open", name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	seen, err := d.infoFd(path, name)
	unix.Close(path)
	if err != nil {
		return nil, err
	}
	if seen.IsLink() {
		return nil, d.err("open", name, unix.ELOOP)
	}
	if !seen.IsRegular() {
		return nil, d.err("open", name, ErrNotRegular)
	}
	fd, err := d.openat("open", name, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if opened, err := d.infoFd(fd, name); err != nil || !opened.IsRegular() {
		unix.Close(fd)
		return nil, errors.Join(err, d.err("open", name, ErrNotRegular))
	}
	return d.file(fd, name), nil
}

// ReadFile reads a regular file of at most limit bytes; a larger one is
// ErrTooLarge, and is not read.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := d.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f, limit)
}

// ReadAll reads what is left of an open file, at most limit bytes: more is
// ErrTooLarge. A file that is known to be larger is not read at all.
func ReadAll(f *os.File, limit int64) ([]byte, error) {
	tooLarge := &os.PathError{Op: "read", Path: f.Name(), Err: fmt.Errorf("%w (%d bytes)", ErrTooLarge, limit)}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, tooLarge
	}
	return data, nil
}

// WriteFile replaces the file name by data, atomically and durably: a reader
// sees the old content or the new one, and a link at the name is replaced, never
// followed. When it fails the old content stands, and no temporary is left, short
// of a crash.
func (d *Dir) WriteFile(name string, data []byte, perm os.FileMode) (err error) {
	parent, base := split(name)
	in, err := d.OpenDir(parent)
	if err != nil {
		return err
	}
	defer in.Close()
	f, temp, err := in.CreateTemp("."+base+".*", perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = unix.Unlinkat(in.fd, temp, 0)
		}
	}()
	info, err := FileInfo(f)
	if err != nil {
		return err
	}
	if err := fsx.Announce(fsx.OpWrite, f.Name()); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := fsx.Sync(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := in.Rename(temp, in, base, Replace); err != nil {
		return err
	}
	if err := in.Expect(base, info.ID); err != nil {
		return err
	}
	return in.Sync()
}
