package chroma

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// btrfsPrefix begins the name of every subvolume snapshot of ours, so that one
// that a crash left can be told from all else.
const btrfsPrefix = ".atobackupd-btrfs-"

// btrfsTries is how many subvolume snapshots may meet a persist before CopyBtrfs
// gives up.
const btrfsTries = 50

// CopyBtrfs copies the Chroma directory src, which a running Chroma may be
// writing to, to dst, which must not exist, by way of a read-only snapshot of
// the btrfs subvolume that holds src: an instant in which everything is as after
// a power cut, and nobody waits. Where the files show that a persist was under
// way in that instant, another one is taken. The subvolume snapshot is made in
// scratch, or beside the subvolume where scratch is on another file system, and
// is removed whatever happens; SweepBtrfs removes what a crash left.
//
// What is made durable and when is as with CopyCold. The process must own the
// subvolume or be root.
func CopyBtrfs(ctx context.Context, src *tree.Dir, dst, scratch string, o Options) (Copied, error) {
	volume, below, err := subvolumeOf(src.Path())
	if err != nil {
		return Copied{}, err
	}
	return copyAndJudge(ctx, src, dst, o, instantTries, func() (Copied, error) {
		for try := 1; ; try++ {
			c, why, err := copySubvolume(ctx, src.ID(), volume, below, dst, scratch, o)
			if err != nil || why == "" {
				return c, err
			}
			if try == btrfsTries {
				return c, &failure.Error{
					Op:      "chroma",
					Subject: src.Path(),
					Err:     fmt.Errorf("each of %d subvolume snapshots met a persist (%s)", try, why),
					Hint:    "try again when the service writes less",
				}
			}
			if err := awaitCalm(ctx, src); err != nil {
				return c, err
			}
		}
	})
}

// CheckBtrfs fails where CopyBtrfs could take no snapshot of the subvolume that
// holds src, as far as that shows without trying.
func CheckBtrfs(src string) error {
	volume, _, err := subvolumeOf(src)
	if err != nil {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Stat(volume, &stat); err != nil {
		return &os.PathError{Op: "stat", Path: volume, Err: err}
	}
	if uid := os.Geteuid(); uid != 0 && uid != int(stat.Uid) {
		return notTheOwner(volume, unix.EPERM)
	}
	return nil
}

func notTheOwner(volume string, err error) error {
	return &failure.Error{
		Op:      "chroma",
		Subject: volume,
		Kind:    failure.Config,
		Err:     fmt.Errorf("btrfs subvolume snapshot: %w", err),
		Hint:    `only root and its owner may take one; set chroma_method = "live"`,
	}
}

// copySubvolume makes one copy from one instant; why tells that the instant met
// a persist, and nothing was copied.
func copySubvolume(
	ctx context.Context,
	id tree.ID,
	volume, below, dst, scratch string,
	o Options,
) (c Copied, why string, err error) {
	instant, err := snapshotSubvolume(volume, scratch)
	if err != nil {
		return c, "", err
	}
	defer func() {
		if removeErr := destroySubvolume(instant); removeErr != nil {
			err = errors.Join(err, &failure.Error{Op: "chroma", Subject: instant, Err: removeErr,
				Hint: "it is no longer needed and holds space: btrfs subvolume delete " + instant})
		}
	}()
	src, err := openInstant(instant, below, id)
	if err != nil {
		return c, "", err
	}
	defer src.Close()
	entries, err := Walk(src)
	if err != nil {
		return c, "", err
	}
	for _, e := range entries {
		// A subvolume inside the one that was snapshotted is an empty directory
		// of this inode number there.
		if e.Type == TypeDir && e.Inode == emptySubvolumeInode {
			return c, "", &failure.Error{
				Op:      "chroma",
				Subject: filepath.Join(volume, below, e.Path),
				Kind:    failure.Refused,
				Err:     errors.New("it is a subvolume of its own, which the snapshot does not hold"),
				Hint:    `set chroma_method = "live"`,
			}
		}
	}
	if why, _ = persistRunning(entries, time.Now()); why != "" {
		return c, why, nil
	}
	m, err := copyQuiescent(ctx, src, dst, o)
	if err != nil {
		return c, "", err
	}
	c, err = conclude(ctx, m, string(MethodBtrfs))
	return c, "", err
}

// openInstant opens the directory of that number in a subvolume snapshot, which
// keeps the numbers: by its path another one may have been snapshotted.
func openInstant(instant, below string, id tree.ID) (*tree.Dir, error) {
	top, err := tree.Open(instant, tree.Trusted(""))
	if err != nil {
		return nil, err
	}
	defer top.Close()
	dir, err := top.OpenDir(filepath.ToSlash(below))
	if err != nil {
		return nil, err
	}
	if dir.ID().Ino != id.Ino {
		return nil, errors.Join(fmt.Errorf("%s %w", dir.Path(), tree.ErrSwapped), dir.Close())
	}
	return dir, nil
}

// SweepBtrfs removes the subvolume snapshots that a crash left in scratch, or
// beside the subvolume that holds src, unless src is "". The caller makes sure that no copy is
// under way.
func SweepBtrfs(src, scratch string) (removed []string, err error) {
	places := []string{scratch}
	if src != "" {
		if volume, _, err := subvolumeOf(src); err == nil {
			places = append(places, filepath.Dir(volume))
		}
	}
	for _, place := range places {
		left, globErr := filepath.Glob(filepath.Join(place, btrfsPrefix+"*"))
		err = errors.Join(err, globErr)
		for _, path := range left {
			if !isSubvolume(path) {
				continue
			}
			if removeErr := destroySubvolume(path); removeErr != nil {
				err = errors.Join(err, removeErr)
				continue
			}
			removed = append(removed, path)
		}
	}
	return removed, err
}

// The inode numbers that btrfs gives to the root of a subvolume, and to the
// place of an absent one.
const (
	subvolumeInode      = 256
	emptySubvolumeInode = 2
)

func isSubvolume(path string) bool {
	var stat unix.Stat_t
	var fs unix.Statfs_t
	return unix.Lstat(path, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Ino == subvolumeInode &&
		unix.Statfs(path, &fs) == nil && fs.Type == unix.BTRFS_SUPER_MAGIC
}

// subvolumeOf finds the subvolume that holds src, and where in it src lies.
func subvolumeOf(src string) (volume, below string, err error) {
	path, err := filepath.Abs(src)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", "", err
	}
	device, err := fsx.Device(path)
	if err != nil {
		return "", "", err
	}
	for volume = path; ; volume = filepath.Dir(volume) {
		if at, err := fsx.Device(volume); err != nil || at != device {
			break // a bind mount of a directory inside it: its root cannot be reached
		}
		if isSubvolume(volume) {
			below, err = filepath.Rel(volume, path)
			return volume, below, err
		}
		if volume == filepath.Dir(volume) {
			break
		}
	}
	return "", "", &failure.Error{
		Op:      "chroma",
		Subject: src,
		Kind:    failure.Config,
		Err:     errors.New("no btrfs subvolume holds it"),
		Hint:    `make its directory a subvolume, or set chroma_method = "live"`,
	}
}

// The calls are made here and not by the btrfs program, which need not be
// installed and whose words change: one for each is less than parsing that.

// volumeArgs is the kernel's struct btrfs_ioctl_vol_args_v2.
type volumeArgs struct {
	fd      int64
	transID uint64
	flags   uint64
	_       [4]uint64
	name    [4040]byte
}

// oldVolumeArgs is struct btrfs_ioctl_vol_args.
type oldVolumeArgs struct {
	fd   int64
	name [4088]byte
}

// The requests, and a flag.
const (
	ioctlSnapCreate = 0x50009417 // BTRFS_IOC_SNAP_CREATE_V2
	ioctlSnapDelete = 0x5000940f // BTRFS_IOC_SNAP_DESTROY, which every kernel has
	ioctlSetFlags   = 0x4008941a // BTRFS_IOC_SUBVOL_SETFLAGS
	readOnlyVolume  = 1 << 1
)

// snapshotSubvolume makes a read-only snapshot of volume in scratch, or beside
// volume where the two are on different file systems.
func snapshotSubvolume(volume, scratch string) (path string, err error) {
	from, err := os.Open(volume)
	if err != nil {
		return "", err
	}
	defer from.Close()
	name := fmt.Sprintf("%s%d-%d", btrfsPrefix, os.Getpid(), time.Now().UnixNano())
	for _, place := range []string{scratch, filepath.Dir(volume)} {
		if place == "" {
			continue
		}
		path = filepath.Join(place, name)
		if err = fsx.Announce(fsx.OpCreate, path); err != nil {
			return "", err
		}
		args := volumeArgs{fd: int64(from.Fd()), flags: readOnlyVolume}
		copy(args.name[:len(args.name)-1], name)
		if err = ioctlIn(place, ioctlSnapCreate, unsafe.Pointer(&args)); err == nil {
			return path, nil
		}
		if !otherFileSystem(err) {
			break
		}
	}
	if errors.Is(err, unix.EPERM) {
		return "", notTheOwner(volume, err)
	}
	return "", &failure.Error{
		Op:      "chroma",
		Subject: volume,
		Err:     fmt.Errorf("btrfs subvolume snapshot at %s: %w", path, err),
		Hint:    "let this process write in " + filepath.Dir(volume) + `, or set chroma_method = "live"`,
	}
}

// otherFileSystem tells the errors of a place that is on no btrfs, or on another
// one; older kernels call that invalid.
func otherFileSystem(err error) bool {
	for _, e := range []error{unix.EXDEV, unix.ENOTTY, unix.EOPNOTSUPP, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// destroySubvolume removes a subvolume snapshot of ours. Whoever is not root may
// remove a subvolume only as any other directory, once it may be written.
func destroySubvolume(path string) error {
	if !strings.HasPrefix(filepath.Base(path), btrfsPrefix) {
		return &os.PathError{Op: "remove", Path: path, Err: errors.New("it is no subvolume snapshot of ours")}
	}
	if err := fsx.Announce(fsx.OpRemove, path); err != nil {
		return err
	}
	var args oldVolumeArgs
	copy(args.name[:len(args.name)-1], filepath.Base(path))
	err := ioctlIn(filepath.Dir(path), ioctlSnapDelete, unsafe.Pointer(&args))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		var flags uint64
		if err := ioctlIn(path, ioctlSetFlags, unsafe.Pointer(&flags)); err != nil {
			return &os.PathError{Op: "remove", Path: path, Err: err}
		}
		return fsx.RemoveAll(path)
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// ioctlIn makes one request to a directory.
func ioctlIn(dir string, request uintptr, args unsafe.Pointer) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), request, uintptr(args))
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		return nil
	}
}
