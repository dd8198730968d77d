package sftp

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/atocore/atobackupd/internal/failure"
)

// findDir proves that dir and the directories above it, up to the root, are
// real ones: a symbolic link planted in the vault must not lead operations out
// of it. What was proved once is remembered for the life of the connection.
func (r *Remote) findDir(dir string) error {
	if _, known := r.dirs.Load(dir); known {
		return r.watch.broken()
	}
	if dir != "." {
		if err := r.findDir(path.Dir(dir)); err != nil {
			return err
		}
		info, err := r.client.Lstat(r.at(dir))
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return local{fmt.Errorf("%s is not a directory but %s", dir, kindOfFile(info))}
		}
	}
	r.dirs.Store(dir, true)
	return nil
}

func kindOfFile(info fs.FileInfo) string {
	if info.Mode()&fs.ModeSymlink != 0 {
		return "a symbolic link, which is not followed"
	}
	return "a file"
}

// forgetDirs drops what findDir remembers, when directories have gone.
func (r *Remote) forgetDirs() { r.dirs.Clear() }

// makeDir is findDir that makes what is missing, durably, the root included.
func (r *Remote) makeDir(dir string) error {
	err := r.findDir(dir)
	if dir == "." && err == nil {
		return r.makeRoot(r.cfg.Path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r.cfg.AppendOnly {
		return r.mustBeMade(dir)
	}
	if err := r.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err := r.mkdir(r.at(dir)); err != nil {
		return err
	}
	return r.findDir(dir)
}

// mustBeMade is the error for a directory that an append-only account lacks: it
// could make one, but with a umask that keeps even itself out.
func (r *Remote) mustBeMade(dir string) error {
	return &failure.Error{
		Op: "append-only target", Subject: r.subject(dir), Kind: failure.NotFound, Err: fs.ErrNotExist,
		Hint: "on that machine, run atobackupd vault init --dir " + r.cfg.Path,
	}
}

// makeRoot makes the vault's own directory where it is missing. Symbolic links
// on the way to it are its owner's choice and are followed.
func (r *Remote) makeRoot(dir string) error {
	info, err := r.client.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return local{fmt.Errorf("%s is not a directory", dir)}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case r.cfg.AppendOnly:
		return r.mustBeMade(".")
	}
	if parent := path.Dir(dir); parent != dir {
		if err := r.makeRoot(parent); err != nil {
			return err
		}
	}
	if err := r.mkdir(dir); err != nil {
		return err
	}
	// The vault is nobody else's business there.
	return r.client.Chmod(dir, 0o700)
}

// mkdir makes one directory durably. Another Put may have just made it.
func (r *Remote) mkdir(dir string) error {
	if err := r.client.Mkdir(dir); err != nil {
		if info, e := r.client.Lstat(dir); e != nil || !info.IsDir() {
			return err
		}
	}
	return r.syncPath(path.Dir(dir))
}
