package snapshot

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MeasureExclusive sets BytesExclusive of each snapshot to what deleting it alone
// would free: without the files that have another name elsewhere, and without the
// blocks that it shares with other files by reflink, where the file system
// tells. It opens every file of every snapshot, which List does not: some
// microseconds a file, and a few a block run on a file system with reflinks.
func (s *Store) MeasureExclusive(list []Snapshot) {
	for i := range list {
		list[i].BytesExclusive = Freed(list[i : i+1])
	}
}

// Freed returns the bytes that deleting all of these snapshots would free. Blocks
// that only they share among each other by reflink are not counted, so it may be
// more; hard links among them are.
func Freed(list []Snapshot) (bytes int64) {
	type inode struct{ device, number uint64 }
	names := make(map[inode]uint64) // of a file with several names, those that go
	for _, snap := range list {
		_ = filepath.WalkDir(snap.Path, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // it is counted without what cannot be read
			}
			info, err := entry.Info()
			if err != nil {
				return nil
			}
			stat := info.Sys().(*syscall.Stat_t)
			id := inode{stat.Dev, stat.Ino}
			if names[id]++; names[id] == uint64(stat.Nlink) {
				bytes += ownBytes(path, info.Size())
			}
			return nil
		})
	}
	return bytes
}

// The kernel's struct fiemap_extent and struct fiemap with room for some of
// them, and the request that fills it in.
type extent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

type extentMap struct {
	start, length                  uint64
	flags, mapped, count, reserved uint32
	extents                        [512]extent
}

const (
	ioctlExtents = 0xc020660b // FS_IOC_FIEMAP
	extentLast   = 0x1
	extentShared = 0x2000
)

// ownBytes returns how many of a file's bytes lie in blocks that no other file
// shares. Where the file system cannot tell, it is all of them.
func ownBytes(path string, size int64) int64 {
	own := size
	for _, e := range extentsOf(path) {
		if e.flags&extentShared != 0 && e.logical < uint64(size) {
			own -= int64(min(e.length, uint64(size)-e.logical)) // the last block may be larger
		}
	}
	return max(0, own)
}

// sharedBlocks returns how many bytes of two files lie at the same place in the
// same blocks.
func sharedBlocks(a, b string) (bytes int64) {
	x, y := extentsOf(a), extentsOf(b)
	for len(x) > 0 && len(y) > 0 {
		start, end := max(x[0].logical, y[0].logical), min(x[0].end(), y[0].end())
		if start < end && x[0].flags&y[0].flags&extentShared != 0 &&
			x[0].physical-x[0].logical == y[0].physical-y[0].logical {
			bytes += int64(end - start)
		}
		if x[0].end() <= y[0].end() {
			x = x[1:]
		} else {
			y = y[1:]
		}
	}
	return bytes
}

func (e extent) end() uint64 { return e.logical + e.length }

// extentsOf returns the block runs of a file in order, or none where the file
// system does not tell.
func extentsOf(path string) (all []extent) {
	f, err := openPlain(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	m := &extentMap{}
	for start := uint64(0); ; {
		*m = extentMap{start: start, length: ^uint64(0) - start, count: uint32(len(m.extents))}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlExtents, uintptr(unsafe.Pointer(m)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || m.mapped == 0 {
			return all
		}
		all = append(all, m.extents[:m.mapped]...)
		last := all[len(all)-1]
		if start = last.end(); last.flags&extentLast != 0 {
			return all
		}
	}
}
