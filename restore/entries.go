package restore

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// entry is one file, directory or symbolic link that an artifact brings. Names
// have slashes.
type entry struct {
	rel    string // below the live directory
	stored string // below the snapshot's directory
	info   tree.Info
	target string // of a symbolic link
}

// entries lists what an artifact brings, directories before what is in them. What
// cannot be restored is left out and named; a snapshot that holds such a thing is
// not valid, see source.validate.
func (a *artifact) entries(src *source) (list []entry, leftOut []string, err error) {
	if a.whole() {
		return treeEntries(src, filepath.ToSlash(a.from))
	}
	suffixes := []string{""}
	if a.name == snapshot.DB && !src.valid() {
		// A database that was saved raw, because SQLite could not read it, has
		// its commits partly in these.
		suffixes = append(suffixes, sidecars...)
	}
	for _, suffix := range suffixes {
		stored := filepath.ToSlash(a.from) + suffix
		info, err := src.at.Lstat(stored)
		if suffix != "" && isMissing(err) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if !info.IsRegular() {
			return nil, nil, fmt.Errorf("%s is not a regular file", stored)
		}
		list = append(list, entry{rel: a.file + suffix, stored: stored, info: info})
	}
	return list, nil, nil
}

// treeEntries lists a stored Chroma directory. A link that leads out of it, or
// anything but files, directories and links, is not restored: the snapshot may
// have been somebody else's.
func treeEntries(src *source, stored string) (list []entry, leftOut []string, err error) {
	dir, err := src.at.OpenDir(stored)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	err = dir.Walk(false, func(n tree.Node, err error) error {
		if err != nil {
			return err
		}
		if path.Dir(n.Path) == "." && isExcluded(n.Path) {
			return skip(n)
		}
		e := entry{rel: n.Path, stored: path.Join(stored, n.Path), info: n.Info}
		switch {
		case n.IsRegular(), n.IsDir():
		case n.IsLink():
			if e.target, err = n.In.Readlink(n.Name); err != nil {
				return err
			}
			if leadsOut(n.Path, e.target) {
				leftOut = append(leftOut, e.stored+" is a symbolic link that leads out of the directory")
				return nil
			}
		default:
			leftOut = append(leftOut, e.stored+" is neither a file, a directory nor a symbolic link")
			return nil
		}
		list = append(list, e)
		return nil
	})
	return list, leftOut, err
}

// skip leaves a node, and a directory's content, out of a walk.
func skip(n tree.Node) error {
	if n.IsDir() {
		return errSkipDir
	}
	return nil
}

func leadsOut(rel, target string) bool {
	return filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(rel), target))
}

func totals(list []entry) (bytes int64, files int) {
	for _, e := range list {
		if e.info.IsRegular() {
			bytes += e.info.Size
			files++
		}
	}
	return bytes, files
}

// isExcluded reports whether a name in a Chroma directory is no part of it.
func isExcluded(name string) bool {
	return name == "lost+found" || strings.HasPrefix(name, workPrefix)
}
