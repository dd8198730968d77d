package chroma

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"golang.org/x/sys/unix"
)

// EntryType is what an Entry is, in the manifest's words.
type EntryType string

// The types that a snapshot may hold.
const (
	TypeFile    EntryType = "file"
	TypeDir     EntryType = "dir"
	TypeSymlink EntryType = "symlink"
)

// Entry is one thing below a Chroma directory.
type Entry struct {
	Path     string // slash-separated, relative to the directory
	Type     EntryType
	Size     int64       // bytes of a file, else 0
	Mode     fs.FileMode // permissions with the set-id and sticky bits
	UID, GID uint32
	MTime    time.Time
	Target   string // of a symbolic link
	Device   uint64
	Inode    uint64
}

// restorePrefix marks what a restore stages inside the live directory.
const restorePrefix = ".atobackupd-restore-"

// lostAndFound is at the top of a file system of its own, is fsck's, and often
// only root can read it: then it is left out.
const lostAndFound = "lost+found"

// maxDepth bounds the walk; Chroma's directories are two levels deep.
const maxDepth = 64

// Walk lists everything that belongs to a Chroma directory, parents before
// their children, names in order. What a restore has staged inside it is left
// out; SQLite's -journal, -wal and -shm are listed where they exist. Nothing is
// followed: a symbolic link is listed when it stays inside the directory. A link
// that leaves it, a device, a socket or a FIFO is an error of kind Refused that
// names it. What vanishes meanwhile is left out.
func Walk(root *tree.Dir) ([]Entry, error) {
	w := walker{root: root}
	err := w.dir(".", 0)
	return w.entries, err
}

type walker struct {
	root    *tree.Dir
	entries []Entry
	refused func(name string, why error) // told of what is left out; nil: it ends the walk
}

func (w *walker) dir(dir string, depth int) error {
	if depth > maxDepth {
		return w.refuse(dir, fmt.Errorf("it lies %d directories deep", depth))
	}
	names, err := namesIn(w.root, dir)
	if err != nil {
		return w.unreadable(dir, err)
	}
	sort.Strings(names)
	for _, name := range names {
		if strings.HasPrefix(name, restorePrefix) {
			continue
		}
		if err := w.entry(path.Join(dir, name), depth); err != nil {
			return err
		}
	}
	return nil
}

func namesIn(root *tree.Dir, dir string) (names []string, err error) {
	d, err := root.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for name, err := range d.Names() {
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func (w *walker) entry(name string, depth int) error {
	if !utf8.ValidString(name) {
		return w.refuse(
			strings.ToValidUTF8(name, "?"),
			fmt.Errorf("its name %q is not UTF-8, and no manifest could hold it", path.Base(name)),
		)
	}
	info, err := w.root.Lstat(name)
	if err != nil {
		return w.unreadable(name, err)
	}
	e, err := newEntry(name, info)
	if err != nil {
		return w.refuse(name, err)
	}
	if e.Type == TypeSymlink {
		if e.Target, err = w.root.Readlink(name); err != nil {
			return w.unreadable(name, err)
		}
		if !staysInside(name, e.Target) {
			return w.refuse(name, fmt.Errorf("it is a link to %s, outside the directory", e.Target))
		}
	}
	w.entries = append(w.entries, e)
	if e.Type != TypeDir {
		return nil
	}
	err = w.dir(name, depth+1)
	if name == lostAndFound && errors.Is(err, fs.ErrPermission) {
		w.entries = w.entries[:len(w.entries)-1]
		return nil
	}
	return err
}

func (w *walker) refuse(name string, why error) error {
	if w.refused != nil {
		w.refused(name, why)
		return nil
	}
	return &failure.Error{Op: "chroma", Subject: w.root.Name(name), Kind: failure.Refused,
		Err: why, Hint: "move it out of the Chroma directory"}
}

// unreadable is of what vanished, which is left out without a word, and of what
// cannot be read.
func (w *walker) unreadable(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case w.refused != nil:
		w.refused(name, err)
		return nil
	}
	return err
}

func newEntry(name string, info tree.Info) (Entry, error) {
	e := Entry{Path: name, MTime: info.MTime, UID: uint32(info.UID), GID: uint32(info.GID), Device: info.ID.Dev,
		Inode: info.ID.Ino, Mode: modeOf(info.Mode)}
	switch info.Type {
	case 0:
		e.Type, e.Size = TypeFile, info.Size
	case fs.ModeDir:
		e.Type = TypeDir
	case fs.ModeSymlink:
		e.Type = TypeSymlink
	case fs.ModeNamedPipe:
		return e, errors.New("it is a FIFO")
	case fs.ModeSocket:
		return e, errors.New("it is a socket")
	default:
		return e, errors.New("it is a device")
	}
	return e, nil
}

// modeOf returns the bits that chmod(2) takes as an fs.FileMode.
func modeOf(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits).Perm()
	for bit, as := range map[uint32]fs.FileMode{
		unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky,
	} {
		if bits&bit != 0 {
			mode |= as
		}
	}
	return mode
}

// staysInside reports whether a link at name leads to something inside the
// directory. All of its ".." must come first: there they climb over directories
// that the walk has seen, while behind a name they would climb from wherever
// another link leads.
func staysInside(name, target string) bool {
	if target == "" || path.IsAbs(target) {
		return false
	}
	depth, named := strings.Count(name, "/"), false
	for _, part := range strings.Split(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; named || depth < 0 {
				return false
			}
		default:
			named = true
		}
	}
	return true
}

// unchanged reports whether two looks at one path saw the same content: by size,
// modification time in nanoseconds, and inode. Of a directory only its being
// there counts, because its entries are looked at themselves.
func (e Entry) unchanged(later Entry) bool {
	if e.Type != later.Type || e.Path != later.Path {
		return false
	}
	return e.Type == TypeDir || e.Size == later.Size && e.MTime.Equal(later.MTime) &&
		e.Inode == later.Inode && e.Device == later.Device && e.Target == later.Target
}
