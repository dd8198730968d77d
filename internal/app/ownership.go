package app

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/restore"
)

// chownCreatedFiles hands what root has made to the owner of the directory that it lies
// in. The service has a user of its own, and after `sudo atobackupd backup` it
// could neither prune that snapshot nor write its own history any more.
func (a *App) chownCreatedFiles() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := errors.Join(chownTree(a.Config.Backup.Dir), chownTree(a.Config.StateDir)); err != nil {
		// Nobody looks at what Close returns at the end of a command.
		a.Options.Log.Warn("the service may be unable to change what root has made", "error", err)
	}
	return nil
}

// chownTree hands root's files below a directory to the directory's owner. That
// owner may change names meanwhile, to be handed something else:
// hence os.Root, which follows no link out of the directory, and no file that
// has a second name, which may be one elsewhere. Ours have none yet when root
// has just made them.
func chownTree(dir string) error {
	root, err := os.OpenRoot(dir)
	if fsx.IsMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if path == restore.JournalFile {
			return nil // root takes up only one that is root's
		}
		if !ok || s.Uid != 0 || !d.IsDir() && s.Nlink > 1 {
			return nil
		}
		return ignoreGone(root.Lchown(path, int(owner.Uid), int(owner.Gid)))
	})
}

// ignoreGone: others remove files meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
