package restore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"golang.org/x/sys/unix"
)

// PlanItem is one artifact that would be replaced.
type PlanItem struct {
	Artifact    string `json:"artifact"`
	Destination string `json:"destination"`
	Layout      string `json:"layout"` // "plain", "mounted file", "mounted directory" or "missing"
	OldBytes    int64  `json:"old_bytes"`
	OldFiles    int    `json:"old_files"`
	NewBytes    int64  `json:"new_bytes"`
	NewFiles    int    `json:"new_files"`
	UID         int    `json:"uid"` // what it will have
	GID         int    `json:"gid"`
	Mode        string `json:"mode"`
}

// planItem describes one artifact, with what stands against exchanging it.
func (r *Request) planItem(
	a *artifact,
	src *source,
) (item PlanItem, refusals []*failure.Error, warnings []string, err error) {
	item = PlanItem{Artifact: a.name, Destination: a.live(), Layout: a.layout()}
	if work := workDir(a.dir, r.Stamp); exists(work) {
		refusals = append(refusals, r.refuse(fmt.Errorf("%s is in the way: an earlier restore left it", work),
			"no restore is under way; look whether it holds anything of worth, and remove it"))
	}
	entries, warnings, err := a.entries(src)
	if err != nil {
		return item, nil, nil, err
	}
	item.NewBytes, item.NewFiles = totals(entries)
	if item.OldBytes, item.OldFiles, err = a.standing(); err != nil {
		return item, nil, nil, err
	}
	will, err := a.outcome(src)
	if err != nil {
		return item, nil, nil, err
	}
	item.UID, item.GID, item.Mode = will.UID, will.GID, fmt.Sprintf("%04o", will.Mode)
	if !r.Force && !mayGive(will.UID, will.GID) {
		refusals = append(
			refusals,
			r.refuse(fmt.Errorf("%s belongs to uid %d and gid %d, and this process may not give files away",
				a.live(), will.UID, will.GID), "run it with sudo"),
		)
	}
	var refused *failure.Error
	if err := r.checkWritable(a); errors.As(err, &refused) {
		refusals = append(refusals, refused)
	} else if err != nil {
		return item, nil, nil, err
	}
	return item, refusals, warnings, nil
}

func (a *artifact) layout() string {
	switch {
	case !a.there:
		return "missing"
	case a.mounted && a.whole():
		return "mounted directory"
	case a.mounted:
		return "mounted file"
	}
	return "plain"
}

// standing adds up what would be replaced.
func (a *artifact) standing() (bytes int64, files int, err error) {
	if !a.there {
		return 0, 0, nil
	}
	if !a.whole() {
		info, err := a.at.Lstat(a.file)
		return info.Size, 1, err
	}
	err = walkStore(a.at, func(n tree.Node) error {
		if n.IsRegular() {
			bytes += n.Size
			files++
		}
		return nil
	})
	return bytes, files, err
}

// checkWritable refuses what the swap could not change: a read-only mount, an
// immutable file, a directory without write permission. It is tried before
// anything is touched, because half a swap on a read-only mount could go neither
// forward nor back.
func (r *Request) checkWritable(a *artifact) error {
	if a.at == nil {
		return nil // its directory will be made
	}
	refuse := func(path string, err error) error {
		return r.refuse(fmt.Errorf("%s cannot be written: %w", path, err),
			"mount it writable, clear its immutable flag (chattr -i), or run it with sudo")
	}
	if a.there && a.mounted && !a.whole() {
		f, err := a.at.OpenInPlace(a.file)
		if err != nil {
			return refuse(a.live(), err)
		}
		f.Close()
	}
	if err := unix.Faccessat(a.at.Fd(), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return refuse(a.dir, err)
	}
	if pinned, err := immutable(a.at, "."); err != nil || pinned {
		return refuse(a.dir, errors.Join(err, errImmutable))
	}
	if !a.whole() {
		return r.checkFilesMovable(a, refuse)
	}
	return a.at.Walk(true, func(n tree.Node, err error) error {
		if err != nil {
			return refuse(a.at.Name(n.Path), err)
		}
		if !strings.Contains(n.Path, "/") && isExcluded(n.Name) {
			return skip(n)
		}
		if pinned, err := immutable(n.In, n.Name); err == nil && pinned {
			return refuse(a.at.Name(n.Path), errImmutable)
		}
		return nil
	})
}

func (r *Request) checkFilesMovable(a *artifact, refuse func(string, error) error) error {
	for _, suffix := range append([]string{""}, sidecars...) {
		if pinned, err := immutable(a.at, a.file+suffix); err == nil && pinned {
			return refuse(a.live()+suffix, errImmutable)
		}
	}
	return nil
}

var errImmutable = errors.New("it is immutable or append-only")

// immutable reports whether an entry may be neither renamed nor written.
func immutable(dir *tree.Dir, name string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(dir.Fd(), name, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0, err
}
