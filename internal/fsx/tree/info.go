package tree

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// ID tells one file from every other that exists at the same time.
type ID struct{ Dev, Ino uint64 }

// Info is what the kernel says of one entry, links not followed.
type Info struct {
	Name   string      // its last element
	Type   fs.FileMode // the type bits; zero for a regular file
	Mode   uint32      // permissions with setuid, setgid and sticky: 0o7777
	UID    int
	GID    int
	Size   int64
	Blocks int64  // of 512 bytes: what it takes on the disk
	Links  uint64 // how many names it has
	MTime  time.Time
	CTime  time.Time
	ID     ID
}

// IsDir reports whether the entry is a directory.
func (i Info) IsDir() bool { return i.Type == fs.ModeDir }

// IsRegular reports whether the entry is a regular file.
func (i Info) IsRegular() bool { return i.Type == 0 }

// IsLink reports whether the entry is a symbolic link.
func (i Info) IsLink() bool { return i.Type == fs.ModeSymlink }

func infoOf(name string, st *unix.Stat_t) Info {
	return Info{Name: name, Type: typeOf(st.Mode), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		Size: st.Size, Blocks: st.Blocks, Links: uint64(st.Nlink),
		MTime: time.Unix(st.Mtim.Unix()), CTime: time.Unix(st.Ctim.Unix()), ID: ID{st.Dev, st.Ino}}
}

func typeOf(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}

// Info describes the directory itself.
func (d *Dir) Info() (Info, error) { return d.infoFd(d.fd, ".") }

// FileInfo describes an open file.
func FileInfo(f interface{ Fd() uintptr }) (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Info{}, err
	}
	return infoOf("", &st), nil
}

func (d *Dir) infoFd(fd int, name string) (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Info{}, d.err("stat", name, err)
	}
	_, base := split(name)
	return infoOf(base, &st), nil
}

// Lstat describes an entry, without following a link at any element.
func (d *Dir) Lstat(name string) (info Info, err error) {
	if name == "." {
		return d.Info()
	}
	err = d.at("lstat", name, func(fd int, base string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		info = infoOf(base, &st)
		return nil
	})
	return info, err
}

// Expect fails with ErrSwapped unless name leads to what id identifies.
func (d *Dir) Expect(name string, id ID) error {
	info, err := d.Lstat(name)
	if err != nil {
		return err
	}
	if info.ID != id {
		return d.err("check", name, ErrSwapped)
	}
	return nil
}

// IsMount reports whether an entry is a mount point: of a file or a directory,
// also a bind mount of the same file system.
func (d *Dir) IsMount(name string) (mounted bool, err error) {
	fd, err := d.openat("stat", name, unix.O_PATH, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	parent, _ := split(name)
	up, err := d.openat("stat", parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(up)
	same, err := sameMount(up, fd)
	return !same, d.err("statx", name, err)
}
