package fsx

import (
	"context"
	"errors"
	"io"
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
// its own, so that one bad sector does not take both. It closes and fsyncs
// neither. Write-back is left to the kernel: asking for it as the copy goes
// (sync_file_range) stalled the copy for longer than it saved. The size is the one that src has at
// the end of the copy; a source that grows is followed.
func CloneOrCopy(ctx context.Context, dst, src *os.File, share bool) (CopyMethod, error) {
	if err := announce(OpCopy, dst.Name()); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if !share {
		// Not copy_file_range: where a file system can share blocks, it does.
		return ReadWrite, readWrite(ctx, dst, src)
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return Reflink, nil
	}
	return copyRange(ctx, dst, src)
}

func copyRange(ctx context.Context, dst, src *os.File) (CopyMethod, error) {
	var done int64
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := unix.CopyFileRange(int(src.Fd()), nil, int(dst.Fd()), nil, copyStep, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && done == 0 && cannotCopyRange(err):
			return ReadWrite, readWrite(ctx, dst, src)
		case err != nil:
			return "", &os.PathError{Op: "copy_file_range", Path: dst.Name(), Err: err}
		case n == 0 && done == 0:
			// Empty, or a file such as those in /proc that only read(2) can read.
			return ReadWrite, readWrite(ctx, dst, src)
		case n == 0:
			return CopyRange, nil
		}
		done += int64(n)
	}
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

func readWrite(ctx context.Context, dst, src *os.File) error {
	buf := buffers.Get().(*[1 << 20]byte)
	defer buffers.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(buf[:])
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
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
