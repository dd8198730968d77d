package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
)

const (
	pageSize   = 4096    // as SQLite and the file systems have it
	patchChunk = 1 << 20 // read at a time
)

// cloneAndPatch replaces a staged file by a clone of its last version in which
// the pages that differ were written anew. The result is read again and must
// have the digest of what it replaces. Where the two share their blocks already,
// as copies of one live file that was changed in place, nothing is done.
func (t *takeRun) cloneAndPatch(ctx context.Context, last stored, f File) {
	staged := t.path(f.Path)
	if min(f.Size, last.Size) < pageSize || sharedBlocks(staged, last.path()) >= f.Size/8*7 {
		return
	}
	clone := t.dir + ".clone" // swept from there, if it comes to that
	if err := t.patchedClone(ctx, clone, staged, last.path(), f); err != nil {
		_ = os.Remove(clone)
	}
}

func (t *takeRun) patchedClone(ctx context.Context, clone, staged, last string, f File) (err error) {
	info, err := os.Lstat(staged)
	if err != nil {
		return err
	}
	if err := writePatched(ctx, clone, staged, last, f.Size); err != nil {
		return err
	}
	if sum, err := digestOf(ctx, t.store.staging(), clone[len(t.store.staging())+1:]); err != nil || sum != f.SHA256 {
		return errors.Join(err, errors.New("the patched clone differs"))
	}
	if err := os.Chmod(clone, info.Mode().Perm()); err != nil {
		return err
	}
	if err := os.Chtimes(clone, time.Time{}, info.ModTime()); err != nil {
		return err
	}
	if err := fsx.SyncFile(clone); err != nil {
		return err
	}
	if err := fsx.Announce(fsx.OpRename, staged); err != nil {
		return err
	}
	return os.Rename(clone, staged)
}

// writePatched makes the new file clone, with the content of staged in the
// blocks of last wherever they are alike.
func writePatched(ctx context.Context, clone, staged, last string, size int64) (err error) {
	from, err := openPlain(last)
	if err != nil {
		return err
	}
	defer from.Close()
	want, err := openPlain(staged)
	if err != nil {
		return err
	}
	defer want.Close()
	out, err := fsx.Create(clone, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := unix.IoctlFileClone(int(out.Fd()), int(from.Fd())); err != nil {
		return err
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	setCowExtentHint(out)
	return patch(ctx, out, want, from, size/2)
}

// fileAttributes is the kernel's struct fsxattr.
type fileAttributes struct {
	flags, extentSize, extents, project, copySize uint32
	_                                             [8]byte
}

const (
	ioctlGetAttributes = 0x801c581f // FS_IOC_FSGETXATTR
	ioctlSetAttributes = 0x401c5820 // FS_IOC_FSSETXATTR
	copySizeFlag       = 0x10000    // FS_XFLAG_COWEXTSIZE
)

// setCowExtentHint asks xfs to set no more than a page aside for each page that is
// written to a clone. It takes 128 KiB otherwise, and gives the rest back
// minutes later: thirty times what is written, for a while.
func setCowExtentHint(f *os.File) {
	request := func(number uintptr, a *fileAttributes) bool {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), number, uintptr(unsafe.Pointer(a)))
		return errno == 0
	}
	var a fileAttributes
	if request(ioctlGetAttributes, &a) {
		a.flags, a.copySize = a.flags|copySizeFlag, pageSize
		_ = request(ioctlSetAttributes, &a) // others do not know it
	}
}

// errUnlike is of two versions that have too little in common for a clone of one
// to be worth its fragments.
var errUnlike = errors.New("most of it differs")

// patch writes the pages of want over those of out, which holds what from does,
// where they differ, but no more than most bytes.
func patch(ctx context.Context, out *os.File, want, from io.Reader, most int64) error {
	a, b := make([]byte, patchChunk), make([]byte, patchChunk)
	for at := int64(0); ; at += patchChunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(want, a)
		if n == 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return ignoreEOF(err)
		}
		m, err := io.ReadFull(from, b)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return err
		}
		for start := 0; start < n; {
			end := start
			for end < n && !samePage(a[:n], b[:m], end) {
				end = min(end+pageSize, n)
			}
			if most -= int64(end - start); most < 0 {
				return errUnlike
			}
			if _, err := out.WriteAt(a[start:end], at+int64(start)); err != nil {
				return err
			}
			start = end + pageSize // that one is alike
		}
	}
}

// samePage reports whether two chunks have the same page at the offset i.
func samePage(a, b []byte, i int) bool {
	end := min(i+pageSize, len(a))
	return end <= len(b) && bytes.Equal(a[i:end], b[i:end])
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// openPlain opens a file of ours, if it is still one.
func openPlain(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}
