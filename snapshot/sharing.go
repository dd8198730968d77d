package snapshot

import (
	"os"
	"path/filepath"
	"time"
)

// Sharing returns which other snapshots are damaged by what was found damaged in one,
// and in which way: those whose file is another name of the very same one, and should
// have the same bytes. m says what the files of the one should be. It has to be asked
// before a repair gives the one a file of its own.
func (s *Store) Sharing(stamp Stamp, m *Manifest, damaged []Damage) (map[Stamp][]string, error) {
	if len(damaged) == 0 {
		return nil, nil
	}
	list, _, err := s.List(time.Now())
	if err != nil {
		return nil, err
	}
	want := filesByPath(m)
	found := make(map[Stamp][]string)
	for _, other := range list {
		if other.Stamp == stamp || other.Manifest == nil || !other.Manifest.Validation.Valid {
			continue // one that was taken invalid never had what is lost
		}
		theirs := filesByPath(other.Manifest)
		for _, d := range damaged {
			if want[d.Path].SHA256 != "" && theirs[d.Path].SHA256 == want[d.Path].SHA256 &&
				shareFile(s.Path(stamp), other.Path, d.Path) {
				found[other.Stamp] = append(found[other.Stamp], d.Why)
			}
		}
	}
	return found, nil
}

// filesByPath returns what a manifest says of each path.
func filesByPath(m *Manifest) map[string]File {
	files := make(map[string]File, len(m.Files))
	for _, f := range m.Files {
		files[f.Path] = f
	}
	return files
}

// shareFile reports whether two directories hold one regular file under the same name.
func shareFile(dir, other, name string) bool {
	a, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil || !a.Mode().IsRegular() {
		return false
	}
	b, err := os.Lstat(filepath.Join(other, filepath.FromSlash(name)))
	return err == nil && os.SameFile(a, b)
}
