package restore

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// On overlayfs a directory that comes from a lower layer cannot be renamed
// (EXDEV). There a Chroma directory is exchanged file by file: the directories
// stay where they are, those that are missing are made, and those that are not
// wanted are removed once they are empty. The directories below new/ and old/,
// with their owners and modes, say which are to be there afterwards, either way.

// walkLeaves calls visit for everything below a Chroma directory that is not a
// directory.
func walkLeaves(dir *tree.Dir, visit func(tree.Node)) error {
	return walkStore(dir, func(n tree.Node) error {
		if !n.IsDir() {
			visit(n)
		}
		return nil
	})
}

// walkStore walks a Chroma directory without what is no part of it.
func walkStore(dir *tree.Dir, visit func(tree.Node) error) error {
	return dir.Walk(true, func(n tree.Node, err error) error {
		if err != nil {
			return err
		}
		if !strings.Contains(n.Path, "/") && isExcluded(n.Name) {
			return skip(n)
		}
		return visit(n)
	})
}

// layDirs makes old/ a picture of the live directories, and brings every live
// file into the upper layer: its inode changes with that, and the journal knows
// files by their inodes.
func (t *swapSet) layDirs() error {
	err := walkStore(t.live, func(n tree.Node) error {
		if n.IsDir() {
			made, err := t.old.MkdirAll(n.Path, 0o700)
			if err != nil {
				return err
			}
			return made.Close()
		}
		if !n.IsRegular() {
			return nil
		}
		f, err := t.live.OpenInPlace(n.Path)
		if errors.Is(err, tree.ErrHardLink) {
			return nil
		}
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return err
	}
	return copyDirAttributes(t.old, t.live)
}

// copyDirAttributes gives the directories of to what those of from have.
func copyDirAttributes(to, from *tree.Dir) error {
	return walkStore(to, func(n tree.Node) error {
		if !n.IsDir() {
			return nil
		}
		a, err := from.Attributes(n.Path)
		if isMissing(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return to.SetAttributes(n.Path, a, hasChown())
	})
}

// makeDirs makes the live directories that picture has and that are missing.
func (t *swapSet) makeDirs(picture *tree.Dir) error {
	return walkStore(picture, func(n tree.Node) error {
		if !n.IsDir() {
			return nil
		}
		if info, err := t.live.Lstat(n.Path); err == nil && info.IsDir() {
			return nil
		}
		made, err := t.live.MkdirAll(n.Path, 0o700)
		if err != nil {
			return err
		}
		return made.Close()
	})
}

// matchDirs removes the live directories that picture does not have, as far as
// they are empty, and gives the others its owners and modes.
func (t *swapSet) matchDirs(picture *tree.Dir) error {
	var extra []string
	err := walkStore(t.live, func(n tree.Node) error {
		if !n.IsDir() {
			return nil
		}
		if info, err := picture.Lstat(n.Path); err != nil || !info.IsDir() {
			extra = append(extra, n.Path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(extra) {
		if err := t.live.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !isMissing(err) {
			return err
		}
	}
	return copyDirAttributes(t.live, picture)
}

// roomFor makes the directory that an entry is moved into, where files are moved
// one by one.
func (t *swapSet) roomFor(dir *tree.Dir, name string) error {
	if !t.Leaves || path.Dir(name) == "." {
		return nil
	}
	made, err := dir.MkdirAll(path.Dir(name), 0o700)
	if err != nil {
		return err
	}
	return made.Close()
}
