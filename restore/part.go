package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// part is one artifact on its way from a snapshot to its live place.
type part struct {
	artifact string
	from     string // the file or directory in the snapshot; "" when nothing comes
	dir      string // the live directory, symbolic links resolved
	name     string // the file's name in dir; "" for Chroma, which is all of dir
	mounted  bool   // the live file, or Chroma's directory, is a mount point
	there    bool   // something stands there now
}

func (p part) whole() bool { return p.name == "" }

// live is the path of what is replaced.
func (p part) live() string { return filepath.Join(p.dir, p.name) }

// parts decides what of a snapshot goes where. Warnings tell what stays as it
// is although one might expect otherwise.
func (r *Request) parts(src *source) (parts []part, warnings []string, err error) {
	add := func(artifact, from string) error {
		p, err := newPart(artifact, from, r.Live.path(artifact), r.owners())
		if err != nil {
			return err
		}
		parts = append(parts, p)
		mount, err := p.unmovable(src)
		if err == nil && mount != "" {
			err = r.refuse(fmt.Errorf("%s is a mount point, and the restore would have to move or remove it", mount), p.unmountHint())
		}
		return err
	}
	c := src.content
	for _, a := range []struct {
		artifact, stored, absent string
		included                 bool
	}{
		{snapshot.DB, c.DB, "the live database was left as it is", c.DBIncluded},
		{snapshot.Registry, c.Registry, "the live registry was left as it is", c.RegistryIncluded},
	} {
		switch {
		case r.Live.path(a.artifact) == "":
			if a.included {
				warnings = append(warnings, a.artifact+": the snapshot has one, and no place for it is configured")
			}
			continue
		case a.included:
			err = add(a.artifact, filepath.Join(src.dir, a.stored))
		case r.exact:
			err = add(a.artifact, "")
		default:
			warnings = append(warnings, fmt.Sprintf("%s: the snapshot has none; %s", a.artifact, a.absent))
		}
		if err != nil {
			return nil, nil, err
		}
	}
	from, warning, err := r.chroma(src)
	if err != nil {
		return nil, nil, err
	}
	if warning != "" {
		warnings = append(warnings, warning)
	}
	if from != "" || r.exact && !r.NoChroma && r.Live.Chroma != "" {
		err = add(snapshot.Chroma, from)
	}
	if err == nil {
		err = noOverlap(parts)
	}
	return parts, warnings, err
}

// chroma decides whether Chroma is restored, and from where.
func (r *Request) chroma(src *source) (from, warning string, err error) {
	stored := filepath.Join(src.dir, src.content.Chroma)
	info, statErr := os.Lstat(stored)
	there := statErr == nil && info.IsDir()
	switch {
	case r.NoChroma:
		return "", "", nil
	case r.ForceChroma && !there:
		return "", "", r.refuse(errors.New("chroma_snapshot_missing: this snapshot holds the database and the registry only"),
			"restore an older full snapshot, or leave out --chroma and rebuild the vectors by ingestion")
	case r.ForceChroma && r.Live.Chroma == "":
		return "", "", r.refuse(errors.New("no Chroma directory is configured"), "set atocore.chroma_path, or leave out --chroma")
	case !src.content.ChromaIncluded && !r.ForceChroma:
		if r.Live.Chroma != "" && !r.exact {
			warning = "chroma: the snapshot holds the database and the registry only; the live Chroma directory was left as it is and may not match (restore a full snapshot, or rebuild the vectors by ingestion)"
		}
		return "", warning, nil
	case r.Live.Chroma == "":
		return "", "chroma: the snapshot has one, and no place for it is configured", nil
	case !there:
		return "", "chroma_snapshot_missing: the snapshot should hold Chroma and does not; the live Chroma directory was left as it is", nil
	}
	return stored, "", nil
}

func newPart(artifact, from, live string, owners tree.Owners) (part, error) {
	path, err := resolve(live, owners)
	if err != nil {
		return part{}, err
	}
	p := part{artifact: artifact, from: from, dir: path}
	if artifact != snapshot.Chroma {
		p.dir, p.name = filepath.Dir(path), filepath.Base(path)
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return part{}, err
	}
	if p.whole() && !info.IsDir() {
		return part{}, fmt.Errorf("%s is not a directory", path)
	}
	if !p.whole() && info.IsDir() {
		return part{}, fmt.Errorf("%s is a directory, not a file", path)
	}
	p.there = true
	p.mounted, err = isMountPoint(path)
	return p, err
}

func (p part) unmountHint() string {
	if p.whole() {
		return "unmount it first, or leave the Chroma directory as it is with --no-chroma"
	}
	return "unmount it first"
}

// resolve follows those symbolic links that nobody else can exchange, and refuses
// all others: what the application makes a link of would else be emptied, and
// filled with its files, wherever it leads. The end of the path may be missing.
func resolve(path string, owners tree.Owners) (string, error) {
	dir, name, err := tree.OpenParent(path, owners)
	if err == nil {
		defer dir.Close()
		return dir.Name(name), nil
	}
	if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
		return "", err
	}
	parent, err := resolve(filepath.Dir(path), owners)
	return filepath.Join(parent, filepath.Base(path)), err
}

// noOverlap refuses a configuration in which Chroma's directory, all of which
// is replaced, holds another artifact.
func noOverlap(parts []part) error {
	for _, c := range parts {
		if !c.whole() {
			continue
		}
		for _, p := range parts {
			if rel, err := filepath.Rel(c.dir, p.live()); p.artifact != c.artifact && err == nil && filepath.IsLocal(rel) {
				return fmt.Errorf("%s lies inside the Chroma directory %s, all of which would be replaced", p.live(), c.dir)
			}
		}
	}
	return nil
}

// leftAlone tells the names in a Chroma directory that are no part of it.
func leftAlone(name string) bool {
	return name == "lost+found" || strings.HasPrefix(name, workPrefix)
}
