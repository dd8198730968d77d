package restore

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// wanted returns what a restored entry gets besides its bytes: what stands there
// has, else what the snapshot recorded, both within what may be restored (no
// setuid or sticky bit, no file of root's in a directory that is not root's).
func (a *artifact) wanted(src *source, e entry) (tree.Attributes, error) {
	stored := src.attributes(e)
	if a.at != nil {
		old, err := a.at.Attributes(e.rel)
		if main, ok := sidecarOf(e.rel); ok && isMissing(err) {
			old, err = a.at.Attributes(main)
		}
		switch {
		case err == nil && a.sameType(e):
			old.MTime = stored.MTime
			return old.Restorable(a.root), nil
		case err == nil, isMissing(err), errors.Is(err, unix.ENOTDIR), errors.Is(err, tree.ErrSymlink):
		default:
			return tree.Attributes{}, err
		}
		if _, recorded := src.files[e.stored]; !recorded {
			stored.UID, stored.GID = a.root.UID, a.root.GID
		}
	}
	return stored.Restorable(a.root), nil
}

// sameType reports whether what stands at an entry's place is of its type. A
// sidecar that is missing is like its database.
func (a *artifact) sameType(e entry) bool {
	info, err := a.at.Lstat(e.rel)
	return isMissing(err) || err == nil && info.Type == e.info.Type
}

// outcome returns whose the restored file, or Chroma's directory, will be.
func (a *artifact) outcome(src *source) (tree.Attributes, error) {
	if a.whole() {
		return a.root, nil
	}
	info, err := src.at.Lstat(a.from)
	if err != nil {
		return tree.Attributes{}, err
	}
	return a.wanted(src, entry{rel: a.file, stored: a.from, info: info})
}

// dropACLs removes the access control lists that a new directory has inherited.
func dropACLs(d *tree.Dir) error {
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		err := unix.Fremovexattr(d.Fd(), name)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return &os.PathError{Op: "removexattr " + name, Path: d.Path(), Err: err}
		}
	}
	return nil
}

// mayGive reports whether this process can give files to uid and gid.
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

// hasChown reports whether this thread has CAP_CHOWN.
func hasChown() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_CHOWN) != 0
}
