package restore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atocore/atobackupd/snapshot"
)

// entry is one file, directory or symbolic link that a part brings.
type entry struct {
	rel    string // below the live directory
	stored string // in the snapshot
	info   fs.FileInfo
}

// entries lists what a part brings, directories before what is in them.
func (p part) entries(src *source) (list []entry, err error) {
	if p.from == "" {
		return nil, nil
	}
	if p.whole() {
		return treeEntries(p.from)
	}
	suffixes := []string{""}
	if p.artifact == snapshot.DB && !src.valid() {
		// A database that was saved raw, because SQLite could not read it, has
		// its commits partly in these.
		suffixes = append(suffixes, sidecars...)
	}
	for _, suffix := range suffixes {
		info, err := os.Lstat(p.from + suffix)
		if suffix != "" && os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", p.from+suffix)
		}
		list = append(list, entry{rel: p.name + suffix, stored: p.from + suffix, info: info})
	}
	return list, nil
}

// treeEntries lists a stored Chroma directory. A link that leads out of it, or
// anything but files, directories and links, ends it: the snapshot may have
// been somebody else's.
func treeEntries(dir string) (list []entry, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if filepath.Dir(rel) == "." && leftAlone(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode.IsRegular(), mode.IsDir():
		case mode&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(rel), target)) {
				return fmt.Errorf("%s is a symbolic link that leads out of the directory", path)
			}
		default:
			return fmt.Errorf("%s is neither a file, a directory nor a symbolic link", path)
		}
		list = append(list, entry{rel: rel, stored: path, info: info})
		return nil
	})
	return list, err
}

func totals(list []entry) (bytes int64, files int) {
	for _, e := range list {
		if e.info.Mode().IsRegular() {
			bytes += e.info.Size()
			files++
		}
	}
	return bytes, files
}
