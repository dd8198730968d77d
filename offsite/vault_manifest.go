package offsite

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/snapshot"
)

// check refuses a manifest that a restore could not follow safely: paths that
// leave the tree or repeat, links that lead out, types that are no files, runs
// that overlap or point outside, numbers beyond the limits. The signature has
// been verified before; this holds also against a signer who means harm.
func (m *Manifest) check(stamp snapshot.Stamp) error {
	switch {
	case m.Format != FormatVersion:
		return fmt.Errorf("manifest format %d, this program knows %d", m.Format, FormatVersion)
	case m.PageSize != PageSize:
		return fmt.Errorf("pages of %d bytes, not %d", m.PageSize, PageSize)
	case m.Stamp != stamp:
		return fmt.Errorf("it is the manifest of %s", m.Stamp)
	case len(m.Files) > maxFiles:
		return fmt.Errorf("%d files, more than %d", len(m.Files), maxFiles)
	}
	seen := make(map[string]bool, len(m.Packs))
	for _, id := range m.Packs {
		if !packPattern.MatchString(id) {
			return fmt.Errorf("%q is no pack", id)
		}
		if seen[id] {
			return fmt.Errorf("pack %s is listed twice", id)
		}
		seen[id] = true
	}
	types := make(map[string]string, len(m.Files))
	total := int64(0)
	for i := range m.Files {
		f := &m.Files[i]
		if err := checkPath(f.Path); err != nil {
			return err
		}
		if f.Path == snapshot.MetadataFile || f.Path == snapshot.ManifestFile {
			return fmt.Errorf("%q is carried by the manifest itself", f.Path)
		}
		if _, twice := types[f.Path]; twice {
			return fmt.Errorf("%q is listed twice", f.Path)
		}
		types[f.Path] = f.Type
		if err := f.check(len(m.Packs)); err != nil {
			return err
		}
		if total += f.Size; total > maxTotalSize { // each is bounded, so it cannot overflow
			return fmt.Errorf("its files have more than %d bytes", int64(maxTotalSize))
		}
	}
	for i := range m.Files {
		if f := &m.Files[i]; f.Type == snapshot.TypeSymlink && leaves(f.Path, f.Target, types) {
			return fmt.Errorf("the link %q leads out of the snapshot, to %q", f.Path, f.Target)
		}
	}
	for p := range types {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if t, listed := types[dir]; listed && t != snapshot.TypeDir {
				return fmt.Errorf("%q lies below %q, which is a %s", p, dir, t)
			}
		}
	}
	return nil
}

func checkPath(p string) error {
	if p == "" || len(p) > maxPath || p != path.Clean(p) || path.IsAbs(p) || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%q is no path inside a snapshot", p)
	}
	if slices.Contains(strings.Split(p, "/"), "..") || p == "." {
		return fmt.Errorf("%q leaves the snapshot", p)
	}
	return nil
}

// leaves reports whether a link leads out of the tree. Taking it for text is not
// enough: in "l/../x" the dots belong to where l leads, if that is a link too.
func leaves(link, target string, types map[string]string) bool {
	if path.IsAbs(target) {
		return true
	}
	at := path.Dir(link)
	for _, part := range strings.Split(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			at = path.Join(at, part)
		case at == "." || types[at] == snapshot.TypeSymlink:
			return true
		default:
			at = path.Dir(at)
		}
	}
	return false
}

func (f *FileEntry) check(packs int) error {
	if f.Size < 0 || f.Size > maxFileSize {
		return fmt.Errorf("%q has %d bytes", f.Path, f.Size)
	}
	switch f.Type {
	case snapshot.TypeDir:
	case snapshot.TypeSymlink:
		if f.Target == "" || len(f.Target) > maxPath || strings.ContainsRune(f.Target, 0) {
			return fmt.Errorf("the link %q leads to %q", f.Path, f.Target)
		}
	case snapshot.TypeFile:
	default:
		return fmt.Errorf("%q is a %q, which no snapshot holds", f.Path, f.Type)
	}
	if f.Type != snapshot.TypeFile && (len(f.Base) > 0 || len(f.Patch) > 0) {
		return fmt.Errorf("%q is a %s and has pages", f.Path, f.Type)
	}
	for _, layer := range [][]Run{f.Base, f.Patch} {
		if err := checkRuns(layer, pages(f.Size), packs); err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
	}
	return nil
}

func checkRuns(runs []Run, filePages int64, packs int) error {
	sorted := slices.Clone(runs)
	slices.SortFunc(sorted, func(a, b Run) int { return cmp.Compare(a.FilePage, b.FilePage) })
	end := int64(0)
	for _, r := range sorted {
		switch {
		case r.FilePage < 0 || r.Pages <= 0 || r.Pages > filePages || r.FilePage > filePages-r.Pages:
			return fmt.Errorf(
				"a run of %d pages at page %d points outside its %d pages", r.Pages, r.FilePage, filePages,
			)
		case r.Pack < 0 || r.Pack >= int64(packs):
			return fmt.Errorf("a run points to pack %d of %d", r.Pack, packs)
		case r.PackPage < 0 || r.Pages > maxPackPages || r.PackPage > maxPackPages-r.Pages:
			return fmt.Errorf("a run of %d pages at page %d points outside any pack", r.Pages, r.PackPage)
		case r.FilePage < end:
			return fmt.Errorf("two runs overlap at page %d", r.FilePage)
		}
		end = r.FilePage + r.Pages
	}
	return nil
}
