package fsx

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// CopyMethod says how bytes got from one file to another.
type CopyMethod string

// The methods, best first.
const (
	Reflink   CopyMethod = "reflink"         // FICLONE: shares blocks, at once
	CopyRange CopyMethod = "copy_file_range" // copied inside the kernel
	ReadWrite CopyMethod = "read-write"      // where the kernel cannot do it
)

// copyStep bounds how long a cancelled copy goes on.
const copyStep = 16 << 20

// CloneOrCopy copies all of src, from its start, into the empty file dst. With
// share it is a reflink where the file system can, else the kernel's
// copy_file_range, which may share blocks too; without it the copy has blocks of
// its own, so that one bad sector does not take both. Holes stay holes. It closes
// and fsyncs neither. Write-back is left to the kernel: asking for it as the copy
// goes (sync_file_range) stalled the copy for longer than it saved. The size is
// the one that src has at the end of the copy; a source that grows is followed.
func CloneOrCopy(ctx context.Context, dst, src *os.File, share bool) (CopyMethod, error) {
	if err := announce(OpCopy, dst.Name()); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if share && unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return Reflink, nil
	}
	// Not copy_file_range without share: where a file system can share blocks, it
	// does.
	c := copier{dst: dst, src: src, method: ReadWrite}
	if share {
		c.method = CopyRange
	}
	err := c.copyExtents(ctx)
	return c.method, err
}

// copier copies the parts of a file that hold data.
type copier struct {
	dst, src *os.File
	method   CopyMethod
}

// toEnd is the end of an extent that goes as far as the file does.
const toEnd = math.MaxInt64

// copyExtents copies one stretch of data after another. A file system that knows
// no holes says that all is data, or does not know the question.
func (c *copier) copyExtents(ctx context.Context) error {
	var at int64
	for {
		start, err := unix.Seek(int(c.src.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return c.endAt(at)
		}
		end := int64(toEnd)
		if err != nil {
			start = at
		} else if end, err = unix.Seek(int(c.src.Fd()), start, unix.SEEK_HOLE); err != nil {
			end = toEnd
		}
		if at, err = c.copyExtent(ctx, start, end); err != nil {
			return err
		}
		if end == toEnd || at < end { // at < end: it was truncated meanwhile
			return c.endAt(at)
		}
	}
}

// endAt makes dst as long as src, which may end with a hole after at.
func (c *copier) endAt(at int64) error {
	info, err := c.src.Stat()
	if err != nil || info.Size() <= at {
		return err
	}
	return c.dst.Truncate(info.Size())
}

// copyExtent copies the bytes from start to end, or to the end of the file, and
// returns where it came to.
func (c *copier) copyExtent(ctx context.Context, start, end int64) (at int64, err error) {
	for at = start; at < end; {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		if c.method == ReadWrite {
			return c.readWrite(ctx, at, end)
		}
		from, to := at, at
		n, err := unix.CopyFileRange(int(c.src.Fd()), &from, int(c.dst.Fd()), &to, int(min(copyStep, end-at)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case at == start && (err != nil && cannotCopyRange(err) || err == nil && n == 0):
			// n == 0: empty, or a file such as those in /proc that only read(2) reads.
			c.method = ReadWrite
			continue
		case err != nil:
			return at, &os.PathError{Op: "copy_file_range", Path: c.dst.Name(), Err: err}
		case n == 0:
			return at, nil
		}
		at += int64(n)
	}
	return at, nil
}

func cannotCopyRange(err error) bool {
	for _, e := range []error{unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EBADF, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// buffers serve readWrite: a directory of 100,000 small files must not clear
// 1 MiB for each.
var buffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

func (c *copier) readWrite(ctx context.Context, at, end int64) (int64, error) {
	buf := buffers.Get().(*[1 << 20]byte)
	defer buffers.Put(buf)
	for at < end {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		n, err := c.src.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if n > 0 {
			if _, err := c.dst.WriteAt(buf[:n], at); err != nil {
				return at, err
			}
			at += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
	}
	return at, nil
}

// CopyFile copies the regular file src to the new file dst with exactly the
// given permissions and fsyncs it; the caller fsyncs the directory. A failed
// copy leaves nothing. It does not follow a symbolic link at src, and refuses
// anything else that is not a regular file.
func CopyFile(ctx context.Context, dst, src string, perm os.FileMode, share bool) (method CopyMethod, err error) {
	in, err := os.OpenFile(src, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // a FIFO would block
	if err != nil {
		return "", err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", &os.PathError{Op: "copy", Path: src, Err: errors.New("not a regular file")}
	}
	out, err := Create(dst, perm)
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			os.Remove(dst)
		}
	}()
	if err := out.Chmod(perm); err != nil { // the umask took part in Create
		return "", err
	}
	if method, err = CloneOrCopy(ctx, out, in, share); err != nil {
		return "", err
	}
	return method, Sync(out)
}
