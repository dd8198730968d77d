package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

var errSkipDir = fs.SkipDir

// artifact is one artifact on its way from a snapshot to its live place.
type artifact struct {
	name    string    // snapshot.DB, …
	from    string    // the file or directory, relative to the snapshot
	dir     string    // the live directory, links resolved
	at      *tree.Dir // that directory; nil while it is missing
	file    string    // the file's name in dir; "" for Chroma, which is all of dir
	mounted bool      // the live file, or Chroma's directory, is a mount point
	there   bool      // something stands there now

	root     tree.Attributes // what the live directory will have
	newOwner *rootChange     // where that differs from what it has
}

func (a *artifact) whole() bool { return a.file == "" }

// live is the path of what is replaced, for messages.
func (a *artifact) live() string { return filepath.Join(a.dir, a.file) }

func closeAll(list []*artifact) {
	for _, a := range list {
		a.at.Close()
	}
}

// artifacts decides what of a snapshot goes where. Warnings tell what stays as it
// is although one might expect otherwise.
func (r *Request) artifacts(src *source) (list []*artifact, warnings []string, err error) {
	defer func() {
		if err != nil {
			closeAll(list)
			list = nil
		}
	}()
	c := src.content
	for _, a := range []struct {
		name, stored, missing string
		included              bool
	}{
		{snapshot.DB, c.DB, "db_snapshot_missing", c.DBIncluded},
		{snapshot.Registry, c.Registry, "registry_missing", c.RegistryIncluded},
	} {
		what := map[string]string{snapshot.DB: "database", snapshot.Registry: "registry"}[a.name]
		switch {
		case r.Live.path(a.name) == "":
			if a.included {
				warnings = append(warnings, a.name+": the snapshot has one, and no place for it is configured")
			}
		case !a.included:
			warnings = append(
				warnings,
				fmt.Sprintf("%s: the snapshot has none; the live %s was left as it is", a.name, what),
			)
		case !src.has(a.stored, false):
			warnings = append(
				warnings,
				fmt.Sprintf("%s: %s is not there; the live %s was left as it is", a.missing, a.stored, what),
			)
		default:
			one, err := r.newArtifact(a.name, a.stored)
			if err != nil {
				return list, nil, err
			}
			list = append(list, one)
		}
	}
	from, warning, err := r.chroma(src)
	if err != nil {
		return list, nil, err
	}
	if warning != "" {
		warnings = append(warnings, warning)
	}
	if from != "" {
		one, err := r.newArtifact(snapshot.Chroma, from)
		if err != nil {
			return list, nil, err
		}
		list = append(list, one)
	}
	for _, a := range list {
		if err := r.settleRoot(a, src); err != nil {
			return list, nil, err
		}
		if err := r.checkMovable(a, src); err != nil {
			return list, nil, err
		}
	}
	return list, warnings, noOverlap(list)
}

// chroma decides whether Chroma is restored, and from where.
func (r *Request) chroma(src *source) (from, warning string, err error) {
	there := src.has(src.content.Chroma, true)
	switch {
	case r.NoChroma:
		return "", "", nil
	case r.ForceChroma && !there:
		return "", "", r.refuse(
			errors.New("chroma_snapshot_missing: this snapshot holds the database and the registry only"),
			"restore an older full snapshot, or leave out --chroma and rebuild the vectors by ingestion",
		)
	case r.ForceChroma && r.Live.Chroma == "":
		return "", "", r.refuse(
			errors.New("no Chroma directory is configured"),
			"set atocore.chroma_path, or leave out --chroma",
		)
	case !src.content.ChromaIncluded && !r.ForceChroma:
		if r.Live.Chroma != "" {
			warning = "chroma: the snapshot holds the database and the registry only; the live Chroma directory was " +
				"left as it is " +
				"and may not match (restore a full snapshot, or rebuild the vectors by ingestion)"
		}
		return "", warning, nil
	case r.Live.Chroma == "":
		return "", "chroma: the snapshot has one, and no place for it is configured", nil
	case !there:
		return "", "chroma_snapshot_missing: the snapshot should hold Chroma and does not; the live Chroma " +
			"directory was left as it is", nil
	}
	return src.content.Chroma, "", nil
}

// newArtifact resolves the live place of an artifact: once, and with links only
// where nobody else can lay them.
func (r *Request) newArtifact(name, from string) (*artifact, error) {
	live := r.Live.path(name)
	a := &artifact{name: name, from: from, dir: filepath.Clean(live)}
	if name != snapshot.Chroma {
		a.dir, a.file = filepath.Dir(a.dir), filepath.Base(a.dir)
	}
	in, base, err := tree.OpenParent(live, r.owners())
	if isMissing(err) {
		return a, nil
	}
	if err != nil {
		return nil, r.unusable(live, err)
	}
	info, err := in.Lstat(base)
	missing := isMissing(err)
	if err != nil && !missing {
		in.Close()
		return nil, r.unusable(live, err)
	}
	err = nil
	switch {
	case !missing && a.whole() && !info.IsDir():
		err = errors.New("it is not a directory")
	case !missing && !a.whole() && !info.IsRegular():
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		in.Close()
		return nil, r.unusable(live, err)
	}
	a.there = !missing
	if a.there {
		a.mounted, err = in.IsMount(base)
	}
	if !a.whole() {
		a.dir, a.file, a.at = in.Path(), base, in
		return a, err
	}
	defer in.Close()
	a.dir = in.Name(base)
	if err == nil && a.there {
		a.at, err = in.OpenDir(base)
	}
	return a, err
}

// unusable says that a live path is not what can be restored over.
func (r *Request) unusable(live string, err error) error {
	var known *failure.Error
	if errors.As(err, &known) {
		return r.refuse(err, known.Hint)
	}
	return r.refuse(fmt.Errorf("%s: %w", live, err), "move it out of the way, or correct the path in the configuration")
}

// settleRoot decides whose the live directory will be. One that was made anew by
// somebody else, as dockerd makes a missing one for root, would keep the
// application from writing its own store.
func (r *Request) settleRoot(a *artifact, src *source) error {
	was, known := src.root(a.name)
	if a.at == nil {
		above, err := nearestAttributes(a.dir, r.owners())
		if err != nil {
			return err
		}
		a.root = tree.Attributes{UID: above.UID, GID: above.GID, Mode: above.Mode & 0o777}
		if known {
			a.root = tree.Attributes{UID: was.UID, GID: was.GID, Mode: was.Mode}.Restorable(above)
		}
		return nil
	}
	var err error
	if a.root, err = a.at.Attributes("."); err != nil || !known || r.Force && !hasChown() {
		return err
	}
	is := ownership{a.root.UID, a.root.GID, a.root.Mode}
	if was.UID == is.UID || canWrite(is, was) {
		return nil
	}
	a.newOwner = &rootChange{Old: is, New: ownership{was.UID, was.GID, was.Mode & 0o777}}
	a.root.UID, a.root.GID, a.root.Mode = was.UID, was.GID, was.Mode&0o777
	return nil
}

// canWrite reports whether the owner that a directory had could write to it now.
func canWrite(is ownership, was snapshot.Root) bool {
	return was.UID == 0 || is.Mode&0o003 == 0o003 || is.GID == was.GID && is.Mode&0o030 == 0o030
}

// nearestAttributes returns those of the nearest directory above path that
// exists.
func nearestAttributes(path string, owners tree.Owners) (tree.Attributes, error) {
	for {
		path = filepath.Dir(path)
		d, err := tree.Open(path, owners)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return tree.Attributes{}, err
		}
		defer d.Close()
		return d.Attributes(".")
	}
}

func (a *artifact) unmountHint() string {
	if a.whole() {
		return "unmount it first, or leave the Chroma directory as it is with --no-chroma"
	}
	return "unmount it first"
}

// noOverlap refuses a configuration in which Chroma's directory, all of which
// is replaced, holds another artifact.
func noOverlap(list []*artifact) error {
	for _, c := range list {
		if !c.whole() {
			continue
		}
		for _, a := range list {
			if rel, err := filepath.Rel(c.dir, a.live()); a.name != c.name && err == nil && filepath.IsLocal(rel) {
				return fmt.Errorf(
					"%s lies inside the Chroma directory %s, all of which would be replaced",
					a.live(),
					c.dir,
				)
			}
		}
	}
	return nil
}
