package tree

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Attributes is what a file has besides its bytes and its name.
type Attributes struct {
	UID, GID int
	Mode     uint32 // permissions with setuid, setgid and sticky
	MTime    time.Time
	Xattrs   map[string][]byte // POSIX ACLs among them
}

// Attributes reads those of an entry; "." is d itself. Extended attributes are
// read of files and directories only: a link has none that count, and to open
// anything else may have effects.
func (d *Dir) Attributes(name string) (Attributes, error) {
	fd, err := d.openat("open", name, unix.O_PATH, 0)
	if err != nil {
		return Attributes{}, err
	}
	defer unix.Close(fd)
	info, err := d.infoFd(fd, name)
	if err != nil {
		return Attributes{}, err
	}
	a := Attributes{UID: info.UID, GID: info.GID, Mode: info.Mode, MTime: info.MTime}
	if info.IsRegular() || info.IsDir() {
		// Through the handle's path: reading them takes no right to read the file.
		if a.Xattrs, err = xattrs("/proc/self/fd/" + itoa(fd)); err != nil {
			return Attributes{}, d.err("getxattr", name, err)
		}
	}
	return a, nil
}

func xattrs(path string) (map[string][]byte, error) {
	names := make([]byte, 64<<10) // the kernel's limit
	n, err := unix.Listxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		n, err := unix.Getxattr(path, name, value)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found[name] = slices.Clone(value[:n])
	}
	return found, nil
}

// Restorable returns the attributes as they may be restored below a live
// directory that looks like root: without setuid, setgid and sticky, without
// security.* and trusted.* attributes, and below a directory that is not root's
// never owned by root. What a stored file claims is input: whoever wrote it would
// else own a program that runs as root.
func (a Attributes) Restorable(root Attributes) Attributes {
	a.Mode &= 0o777
	if root.UID != 0 {
		if a.UID == 0 {
			a.UID = root.UID
		}
		if a.GID == 0 {
			a.GID = root.GID
		}
	}
	kept := map[string][]byte{}
	for name, value := range a.Xattrs {
		if !strings.HasPrefix(name, "security.") && !strings.HasPrefix(name, "trusted.") {
			kept[name] = value
		}
	}
	a.Xattrs = kept
	return a
}

// SetAttributes gives an entry its attributes; "." is d itself. Everything is
// set on a descriptor, a link's owner without following it. Only a regular file
// with one name, a directory or a link is changed. Without owners the owner stays
// the caller's. A label that only the kernel may set is left out.
func (d *Dir) SetAttributes(name string, a Attributes, owners bool) error {
	info, err := d.Lstat(name)
	if err != nil {
		return err
	}
	switch {
	case info.IsLink():
		return d.setLink(name, a, owners)
	case info.IsDir():
		fd, err := d.openat("open", name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return d.err("set attributes", name, setFd(fd, a, owners))
	}
	f, err := d.openRegular(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := FileInfo(f); err != nil || info.Links != 1 {
		return errors.Join(err, d.err("set attributes", name, ErrHardLink))
	}
	return SetFileAttributes(f, a, owners)
}

// GrantRead gives the directory and everything below it to a group, which may then
// read it all and write nothing. Links have no permissions of their own.
func (d *Dir) GrantRead(gid int) error {
	err := d.Walk(false, func(n Node, err error) error {
		if err != nil || n.IsDir() || !n.IsRegular() {
			return err
		}
		f, err := n.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		return n.In.err("give to group", n.Name, grantRead(int(f.Fd()), n.Info, gid))
	})
	if err != nil {
		return err
	}
	err = d.Walk(false, func(n Node, err error) error { // directories last: they open the way
		if err != nil || !n.IsDir() {
			return err
		}
		child, err := n.In.OpenDir(n.Name)
		if err != nil {
			return err
		}
		defer child.Close()
		return n.In.err("give to group", n.Name, grantRead(child.fd, n.Info, gid))
	})
	info, infoErr := d.Info()
	if err := errors.Join(err, infoErr); err != nil {
		return err
	}
	return d.err("give to group", ".", grantRead(d.fd, info, gid))
}

func grantRead(fd int, info Info, gid int) error {
	if err := unix.Fchown(fd, -1, gid); err != nil {
		return err
	}
	mode := info.Mode&0o700 | 0o040
	if info.IsDir() {
		mode |= 0o010
	}
	return unix.Fchmod(fd, mode)
}

// TakeOver gives the directory and everything below it to an owner: for what
// somebody else has made that is to be kept unchanged from now on. It is closed
// first. A file with another name, which may lie elsewhere, or a special file ends
// it; no setuid or setgid bit and no write permission for others stays.
func (d *Dir) TakeOver(uid, gid int) error {
	if err := errors.Join(unix.Fchown(d.fd, uid, gid), unix.Fchmod(d.fd, 0o700)); err != nil {
		return d.err("take over", ".", err)
	}
	return d.Walk(false, func(n Node, err error) error {
		switch {
		case err != nil:
			return err
		case n.IsDir():
			child, err := n.In.OpenDir(n.Name)
			if err != nil {
				return err
			}
			defer child.Close()
			return n.In.err(
				"take over",
				n.Name,
				errors.Join(unix.Fchown(child.fd, uid, gid), unix.Fchmod(child.fd, 0o700)),
			)
		case n.IsLink():
			return n.In.err("take over", n.Name, unix.Fchownat(n.In.fd, n.Name, uid, gid, unix.AT_SYMLINK_NOFOLLOW))
		case n.Links != 1:
			return n.In.err("take over", n.Name, ErrHardLink)
		}
		f, err := n.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		fd := int(f.Fd())
		return n.In.err(
			"take over",
			n.Name,
			errors.Join(unix.Fchown(fd, uid, gid), unix.Fchmod(fd, n.Mode&0o740|0o400)),
		)
	})
}

// Chmod sets the permissions of the directory itself.
func (d *Dir) Chmod(mode uint32) error { return d.err("chmod", ".", unix.Fchmod(d.fd, mode)) }

// SetFileAttributes is SetAttributes for an open file.
func SetFileAttributes(f *os.File, a Attributes, owners bool) error {
	if err := setFd(int(f.Fd()), a, owners); err != nil {
		return &os.PathError{Op: "set attributes", Path: f.Name(), Err: err}
	}
	return nil
}

// setFd keeps an order that matters: a change of owner clears setuid and
// capabilities, an ACL changes the mode, and each of them the times.
func setFd(fd int, a Attributes, owners bool) error {
	if owners {
		if err := unix.Fchown(fd, a.UID, a.GID); err != nil {
			return fmt.Errorf("give it to uid %d, gid %d: %w", a.UID, a.GID, err)
		}
	}
	if err := unix.Fchmod(fd, a.Mode); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	for name, value := range a.Xattrs {
		err := unix.Fsetxattr(fd, name, value, 0)
		if err != nil && !strings.HasPrefix(name, "security.") && !strings.HasPrefix(name, "trusted.") {
			return fmt.Errorf("setxattr %s: %w", name, err)
		}
	}
	return setTimes(fd, a.MTime)
}

// setTimes sets the times of an open file. To the nanosecond, which futimes(3)
// has not; there is no such call on a descriptor but by its path.
func setTimes(fd int, mtime time.Time) error {
	ts, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), []unix.Timespec{ts, ts}, 0)
}

func (d *Dir) setLink(name string, a Attributes, owners bool) error {
	return d.at("set attributes", name, func(fd int, base string) error {
		if owners {
			if err := unix.Fchownat(fd, base, a.UID, a.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
		ts, err := unix.TimeToTimespec(a.MTime)
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(fd, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chown changes the owner of the entry that id identifies, and its group unless gid
// is -1. The entry is never opened for reading: to close a descriptor of a file
// of SQLite's would drop the locks that this process has on it.
func (d *Dir) Chown(name string, id ID, uid, gid int) error {
	fd, err := d.openat("chown", name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if info, err := d.infoFd(fd, name); err != nil || info.ID != id {
		return errors.Join(err, d.err("chown", name, ErrSwapped))
	}
	return d.err("chown", name, unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH))
}

// Give hands an entry that belongs to the caller to the owner of d, where the
// caller is root and d is not: for what a library has made there by its path.
// Only a regular file with one name or a directory is given.
func (d *Dir) Give(name string) error {
	made, err := d.Lstat(name)
	if err != nil || made.UID != 0 || os.Geteuid() != 0 {
		return err
	}
	info, err := d.Info()
	if err != nil || info.UID == 0 {
		return err
	}
	open := d.openRegular
	if made.IsDir() {
		open = func(name string, flags int) (*os.File, error) {
			fd, err := d.openat("open", name, flags|unix.O_DIRECTORY, 0)
			return d.file(fd, name), err
		}
	}
	f, err := open(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	opened, err := FileInfo(f)
	if err == nil && (opened.UID != 0 || opened.IsRegular() && opened.Links != 1) {
		err = ErrSwapped
	}
	if err == nil {
		err = f.Chown(info.UID, info.GID)
	}
	return d.err("chown", name, err)
}

type owner struct{ uid, gid int }

// GiveToOwner makes the handle, and those opened through it from now on, give
// every entry that they make to the owner and group of this directory, where the
// caller may do that: what root makes in the service's directories is the
// service's. It returns d.
func (d *Dir) GiveToOwner() (*Dir, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 && info.UID != 0 {
		d.give = &owner{info.UID, info.GID}
	}
	return d, nil
}
