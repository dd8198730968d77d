package app

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot"
)

// Owners returns the users whose files decisions may be taken from: root, the
// service's user and whoever runs this.
func (a *App) Owners() tree.Owners { return tree.Trusted(a.Config.StateDir) }

// requirePrivate tightens the state directory and, for root, refuses to go on
// where somebody else can change what is written and restored: what root does
// there would be done for him.
func (a *App) requirePrivate() error {
	if err := a.tightenStateDir(); err != nil {
		return err
	}
	if os.Geteuid() != 0 || a.Options.TrustBackupDir {
		return nil
	}
	shared, err := SharedPlaces(a.Config)
	if err != nil {
		return err
	}
	if len(shared) == 0 {
		return nil
	}
	refusal := tree.Refusal(a.Config.Backup.Dir, shared)
	return &failure.Error{Op: "refused", Kind: failure.Refused, Err: refusal,
		Hint: "or go on all the same with --trust-backup-dir"}
}

// sharedFact says that somebody else can write where the backups lie, or above.
func (a *App) sharedFact() *health.Trouble {
	shared, err := SharedPlaces(a.Config)
	if err != nil {
		return trouble(err)
	}
	return trouble(tree.Refusal(a.Config.Backup.Dir, shared))
}

// shareWithAtoCore lets the group of backup.atocore_group read a new snapshot, so
// that AtoCore's own tools can restore it.
func (a *App) shareWithAtoCore(taken snapshot.Snapshot) {
	gid, ok := groupID(a.Config.Backup.AtoCoreGroup)
	if !ok {
		return
	}
	d, err := tree.Open(taken.Path, a.Owners())
	if err == nil {
		err = errors.Join(d.GrantRead(gid), d.Close())
	}
	if err != nil {
		a.Options.Log.Warn("AtoCore cannot read the snapshot", "stamp", taken.Stamp, "error", err)
	}
}

// tightenStateDir keeps everybody else out of the state directory. One that is
// not there yet is made so.
func (a *App) tightenStateDir() error {
	d, err := tree.Open(a.Config.StateDir, a.Owners())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &failure.Error{Op: "state_dir", Subject: a.Config.StateDir, Kind: failure.Config, Err: err,
			Hint: "make it a directory of the service's user, closed to everybody else"}
	}
	defer d.Close()
	info, err := d.Info()
	if err != nil || info.Mode&0o077 == 0 {
		return err
	}
	if err := d.Chmod(0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err // another user's is his to tighten, and `config check` says so
	}
	return nil
}

// SharedPlaces returns where somebody else can write who could then change the
// backups, what is decided from them, or the configuration: backup.dir with its
// own directories, and whatever lies above it, above state_dir and above the
// configuration. Where AtoCore adds snapshots itself, its group may add entries
// to snapshots/, and the sticky bit keeps it from changing ours.
func SharedPlaces(c *config.Config) (shared []tree.Offence, err error) {
	owners := tree.Trusted(c.StateDir)
	paths := []string{c.Backup.Dir, filepath.Dir(c.StateDir)}
	for _, name := range []string{"snapshots", "staging", "quarantine", "base"} {
		if name != "snapshots" || !isOpenToGroup(c, owners) {
			paths = append(paths, filepath.Join(c.Backup.Dir, name))
		}
	}
	if c.Path != "" {
		paths = append(paths, c.Path)
	}
	for _, path := range paths {
		found, err := tree.Offences(path, owners)
		if errors.Is(err, unix.ENOTDIR) {
			continue // whoever needs it says that it is no directory
		}
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			if !slices.Contains(shared, o) {
				shared = append(shared, o)
			}
		}
	}
	return shared, nil
}

// isOpenToGroup reports whether snapshots/ is open to backup.atocore_group alone,
// 3770, so that the group can add and not change.
func isOpenToGroup(c *config.Config, owners tree.Owners) bool {
	gid, ok := groupID(c.Backup.AtoCoreGroup)
	if !ok {
		return false
	}
	dir, err := tree.Open(c.Backup.Dir, owners)
	if err != nil {
		return false
	}
	defer dir.Close()
	info, err := dir.Lstat("snapshots")
	return err == nil && info.IsDir() && owners.Has(info.UID) && info.GID == gid &&
		info.Mode&unix.S_ISVTX != 0 && info.Mode&0o007 == 0
}

// CheckGroup refuses the name of a group that this machine does not know.
func CheckGroup(name string) error {
	if _, ok := groupID(name); ok || name == "" {
		return nil
	}
	return &failure.Error{Subject: name, Err: errors.New("no such group"),
		Hint: "write its number, which `stat -c %g` shows of AtoCore's files"}
}

// groupID returns the number of a group that is named, or given as a number.
func groupID(name string) (gid int, ok bool) {
	if name == "" {
		return 0, false
	}
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, true
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, false
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, err == nil
}
