package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// swapSet is one live directory in which entries are exchanged. Everything in it
// is reached through the handles below: the directory belongs to the application,
// which may put a link wherever a path leads through.
type swapSet struct {
	Artifact string `json:"artifact"`
	Dir      string `json:"dir"`
	Work     string `json:"work"`            // holds new/ and old/, in the same mount as Dir
	Whole    bool   `json:"whole,omitempty"` // every entry of Dir is replaced
	// Leaves says that the entries are files at any depth: directories cannot be
	// renamed here.
	Leaves  bool         `json:"leaves,omitempty"`
	Entries []*swapEntry `json:"slots"`
	Root    *rootChange  `json:"root,omitempty"` // Dir itself gets another owner

	live, fresh, old *tree.Dir
	work             *tree.Dir // the workspace of the artifact
}

// swapEntry is one name in a swapSet's directory.
type swapEntry struct {
	Name string    `json:"name"`
	Old  *Identity `json:"old,omitempty"` // what stood there; nil for nothing
	New  *Identity `json:"new,omitempty"` // what comes; nil for nothing

	// InPlace is for a file that is itself a mount point, which no rename can
	// replace: it is overwritten. old/ holds a copy of it from before the swap.
	InPlace bool `json:"in_place,omitempty"`
	Begun   bool `json:"begun,omitempty"` // overwriting may have begun
	Done    bool `json:"done,omitempty"`  // overwritten whole, and durable
}

// rootChange is the owner and mode of a live directory, before and after.
type rootChange struct {
	Old, New ownership
}

type ownership struct {
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	Mode uint32 `json:"mode"`
}

func (t *swapSet) entry(name string) *swapEntry {
	for _, e := range t.Entries {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// restores reports whether the set brings anything.
func (t *swapSet) restores() bool {
	for _, e := range t.Entries {
		if e.New != nil {
			return true
		}
	}
	return t.Whole && len(t.Entries) == 0
}

// replaces reports whether anything stood there before.
func (t *swapSet) replaces() bool {
	for _, e := range t.Entries {
		if e.Old != nil {
			return true
		}
	}
	return false
}

// makeWorkspace makes the directories of the set below its live directory.
func (t *swapSet) makeWorkspace(stamp snapshot.Stamp) error {
	ws, err := t.live.OpenDir(workName(stamp))
	if errors.Is(err, fs.ErrNotExist) {
		ws, err = t.live.Mkdir(workName(stamp), 0o700)
	}
	if err != nil {
		return err
	}
	defer ws.Close()
	// A default access control list of the live directory would be inherited by
	// every copy, and open it to users who could not read the original.
	if err := dropACLs(ws); err != nil {
		return err
	}
	if t.work, err = ws.Mkdir(t.Artifact, 0o700); err != nil {
		return err
	}
	if t.fresh, err = t.work.Mkdir("new", 0o700); err != nil {
		return err
	}
	t.old, err = t.work.Mkdir("old", 0o700)
	return err
}

// open opens the directories of a set that another process has made.
func (t *swapSet) open(owners tree.Owners) (err error) {
	defer func() {
		if err != nil {
			t.close()
			err = fmt.Errorf("%s: %w", t.Artifact, err)
		}
	}()
	if t.live, err = tree.Open(t.Dir, owners); err != nil {
		return err
	}
	rel, err := filepath.Rel(t.Dir, t.Work)
	if err != nil {
		return err
	}
	if t.work, err = t.live.OpenDir(rel); err != nil {
		return err
	}
	info, err := t.work.Info()
	if err != nil {
		return err
	}
	if !owners.Has(info.UID) || info.Mode&0o022 != 0 {
		return fmt.Errorf(
			"%s belongs to uid %d with mode %04o, and so is not what a restore made",
			t.Work,
			info.UID,
			info.Mode,
		)
	}
	if t.fresh, err = t.work.OpenDir("new"); err != nil {
		return err
	}
	t.old, err = t.work.OpenDir("old")
	return err
}

func (t *swapSet) close() {
	for _, d := range []*tree.Dir{t.live, t.work, t.fresh, t.old} {
		d.Close()
	}
	t.live, t.work, t.fresh, t.old = nil, nil, nil, nil
}

// stillThere fails where the workspace is no longer where it was made: then
// somebody has exchanged it, and nothing of it may be put in place by its name.
func (t *swapSet) stillThere(stamp snapshot.Stamp) error {
	return t.live.Expect(workName(stamp)+"/"+t.Artifact, t.work.ID())
}

// sync makes the names in all of a set's directories durable. Of files below
// them, and of directories that were moved one file at a time, the file system's
// own flush takes care.
func (t *swapSet) sync() error {
	if t.Leaves {
		return t.live.SyncFileSystem()
	}
	return errors.Join(t.live.Sync(), t.fresh.Sync(), t.old.Sync())
}
