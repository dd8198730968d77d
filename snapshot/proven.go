package snapshot

import (
	"path/filepath"
	"strings"
)

// Proven is a snapshot directory that this very run has validated, with nothing to
// say about it. What has the same bytes needs no second check: its digest is enough.
// A nil one proves nothing.
type Proven struct {
	dir   string
	files map[string]File
}

// newProven is of a snapshot directory whose every file was found to be as its
// manifest says.
func newProven(dir string, m *Manifest) *Proven {
	return &Proven{dir: filepath.Clean(dir), files: filesByPath(m)}
}

// path is where the file of that name was validated.
func (p *Proven) path(name string) string { return filepath.Join(p.dir, filepath.FromSlash(name)) }

// same reports whether a digested file, directory or link has the bytes of the one at
// its path.
func (p *Proven) same(f File) bool {
	known, ok := p.files[f.Path]
	return ok && known.Type == f.Type && known.Size == f.Size && known.SHA256 == f.SHA256 && known.Target == f.Target
}

// holds reports whether the digested files are all that there is at and below a name,
// and the same.
func (p *Proven) holds(name string, files []File) bool {
	if p == nil {
		return false
	}
	left := len(files)
	for path := range p.files {
		if path == name || strings.HasPrefix(path, name+"/") {
			left--
		}
	}
	for _, f := range files {
		if !p.same(f) {
			return false
		}
	}
	return left == 0 && len(files) > 0
}

// lies reports whether a digested file was validated in the directory dir.
func (p *Proven) lies(dir string, f File) bool {
	return p != nil && p.dir == filepath.Clean(dir) && p.same(f)
}
