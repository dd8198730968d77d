package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// attributes is what a file has besides its bytes.
type attributes struct {
	uid, gid int
	mode     uint32 // permission bits with setuid, setgid and sticky
	mtime    time.Time
	xattrs   map[string][]byte // POSIX ACLs among them
}

// attributesAt reads those of a file that stands there.
func attributesAt(path string) (attributes, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return attributes{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	a := attributes{uid: int(st.Uid), gid: int(st.Gid), mode: st.Mode & 0o7777, mtime: time.Unix(0, st.Mtim.Nano())}
	var err error
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		a.xattrs, err = xattrsAt(path)
	}
	return a, err
}

func xattrsAt(path string) (map[string][]byte, error) {
	names := make([]byte, 64<<10) // the kernel's limit
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	found := map[string][]byte{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		found[name] = slices.Clone(value[:n])
	}
	return found, nil
}

// restorable returns what of the attributes may be restored below a live
// directory: see tree.Attributes.Restorable.
func (a attributes) restorable(root attributes) attributes {
	r := tree.Attributes{UID: a.uid, GID: a.gid, Mode: a.mode, MTime: a.mtime, Xattrs: a.xattrs}.Restorable(
		tree.Attributes{UID: root.uid, GID: root.gid})
	return attributes{uid: r.UID, gid: r.GID, mode: r.Mode, mtime: r.MTime, xattrs: r.Xattrs}
}

// apply gives a file of ours its attributes. The order matters: a change of
// owner clears setuid and capabilities, and an ACL changes the mode.
func (a attributes) apply(path string, keepOwner bool) error {
	if keepOwner {
		if err := os.Lchown(path, a.uid, a.gid); err != nil {
			return fmt.Errorf("give it back to its owner: %w", err)
		}
	}
	if info, err := os.Lstat(path); err != nil {
		return err
	} else if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err := unix.Chmod(path, a.mode); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	for name, value := range a.xattrs {
		err := unix.Lsetxattr(path, name, value, 0)
		// Labels that only the kernel may set come by themselves.
		if err != nil && !(strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.")) {
			return &os.PathError{Op: "setxattr " + name, Path: path, Err: err}
		}
	}
	return os.Chtimes(path, a.mtime, a.mtime)
}

// wanted says what attributes a file of the part gets: those of what stands
// there, else the snapshot's. rel is its path below the live directory, stored
// its copy in the snapshot. Chroma names its files anew with every segment, so
// one that is not there yet gets the owner of the directory it comes into.
func (p part) wanted(liveDir string, src *source, rel, stored string) (attributes, error) {
	a, err := storedAttributes(src, stored)
	if err != nil {
		return attributes{}, err
	}
	root, err := attributesAt(liveDir + "/.")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return attributes{}, err
	}
	a = a.restorable(root)
	like := filepath.Join(liveDir, rel)
	old, err := attributesAt(like)
	if main, ok := mainOf(rel); ok && errors.Is(err, fs.ErrNotExist) {
		old, err = attributesAt(filepath.Join(liveDir, main))
	}
	old = old.restorable(root)
	switch {
	case err == nil && sameType(like, stored):
		old.mtime = a.mtime
		return old, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return attributes{}, err
	case p.whole() && p.there:
		a.uid, a.gid = root.uid, root.gid
		return a, nil
	}
	return a, nil
}

func sameType(a, b string) bool {
	infoA, errA := os.Lstat(a)
	infoB, errB := os.Lstat(b)
	// A missing a is a sidecar, for which its database was asked.
	return errors.Is(errA, fs.ErrNotExist) || errA == nil && errB == nil && infoA.Mode().Type() == infoB.Mode().Type()
}

func storedAttributes(src *source, stored string) (attributes, error) {
	info, err := os.Lstat(stored)
	if err != nil {
		return attributes{}, err
	}
	rel, err := filepath.Rel(src.dir, stored)
	if err != nil {
		return attributes{}, err
	}
	if f, ok := src.files[filepath.ToSlash(rel)]; ok {
		return attributes{uid: f.UID, gid: f.GID, mode: f.Mode, mtime: f.MTime}, nil
	}
	st := info.Sys().(*syscall.Stat_t)
	return attributes{uid: int(st.Uid), gid: int(st.Gid), mode: st.Mode & 0o7777, mtime: info.ModTime()}, nil
}

// rootOf says what a live directory that is missing must look like: as the
// snapshot recorded it, else like its nearest ancestor that exists.
func rootOf(p part, src *source) (snapshot.Root, error) {
	if src.manifest != nil {
		if root, ok := src.manifest.Roots[p.artifact]; ok {
			return root, nil
		}
	}
	for dir := filepath.Dir(p.dir); ; dir = filepath.Dir(dir) {
		a, err := attributesAt(dir)
		if err == nil {
			return snapshot.Root{Path: p.dir, UID: a.uid, GID: a.gid, Mode: a.mode & 0o777}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return snapshot.Root{}, err
		}
	}
}

// mayGive tells whether this process can give files to uid and gid.
func mayGive(uid, gid int) bool {
	if hasChown() {
		return true
	}
	if uid != os.Geteuid() {
		return false
	}
	groups, err := os.Getgroups()
	return gid == os.Getegid() || err == nil && slices.Contains(groups, gid)
}

// hasChown says whether this thread has CAP_CHOWN.
func hasChown() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_CHOWN) != 0
}
