package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// extract copies the artifacts below r.To, as a snapshot has them, and proves
// the copies. What it made is removed again when it fails.
func (r *Request) extract(ctx context.Context, plan *Plan, res *Result) (err error) {
	to, made, err := r.emptyDir()
	if err != nil {
		return r.refuse(err, "name a directory that is empty or does not exist")
	}
	defer to.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, r.emptyAgain(to, made))
		}
	}()
	s := &session{Journal: &Journal{}, share: r.Share, keepOwner: hasChown(), progress: r.Progress}
	if !s.keepOwner {
		s.warn("only root can keep the owners of files; these belong to uid %d", os.Geteuid())
	}
	defer func() { res.Warnings = append(res.Warnings, s.warnings...) }()
	list, missing := stored(plan.src, r.NoChroma)
	for _, what := range missing {
		s.warn("%s", what)
	}
	for _, a := range list {
		if err := s.extractArtifact(ctx, to, a, plan.src); err != nil {
			return &failure.Error{
				Op:      "restore",
				Subject: string(r.Stamp),
				Kind:    kindOf(err),
				Err:     err,
				Hint:    "nothing is left in " + r.To,
			}
		}
		res.restored(a.name, true)
	}
	plan.artifacts = nil
	res.RestoredIntegrityOK = res.DBRestored && !slices.ContainsFunc(plan.src.problems, aboutDB)
	return nil
}

// stored lists the artifacts of a snapshot under AtoCore's own names, and names
// those that should be there and are not.
func stored(src *source, noChroma bool) (list []*artifact, missing []string) {
	c := src.content
	for _, a := range []struct {
		name, from, to, code string
		included             bool
	}{
		{snapshot.DB, c.DB, snapshot.DBFile, "db_snapshot_missing", c.DBIncluded},
		{snapshot.Registry, c.Registry, snapshot.RegistryFile, "registry_missing", c.RegistryIncluded},
		{snapshot.Chroma, c.Chroma, snapshot.ChromaDir, "chroma_snapshot_missing", c.ChromaIncluded && !noChroma},
	} {
		whole := a.name == snapshot.Chroma
		switch {
		case !a.included:
		case !src.has(a.from, whole):
			missing = append(missing, a.code+": "+a.from+" is not there")
		case whole:
			list = append(list, &artifact{name: a.name, from: a.from, dir: a.to})
		default:
			list = append(
				list,
				&artifact{name: a.name, from: a.from, dir: filepath.Dir(a.to), file: filepath.Base(a.to)},
			)
		}
	}
	return list, missing
}

// extractArtifact copies an artifact into its directory below to.
func (s *session) extractArtifact(ctx context.Context, to *tree.Dir, a *artifact, src *source) error {
	dir, err := to.MkdirAll(filepath.ToSlash(a.dir), 0o700)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, leftOut, err := a.entries(src)
	if err != nil {
		return err
	}
	for _, what := range leftOut {
		s.warn("%s: it was not restored", what)
	}
	if err := copyEntries(ctx, dir, src.at, entries, s.share, s.progress); err != nil {
		return err
	}
	if err := s.proveCopy(ctx, dir, entries, src); err != nil {
		return err
	}
	// Root's own scratch directory says nothing about whose the files are.
	anybody := tree.Attributes{}
	for _, e := range slices.Backward(entries) {
		if err := dir.SetAttributes(e.rel, src.attributes(e).Restorable(anybody), s.keepOwner); err != nil {
			return err
		}
	}
	if a.whole() {
		info, err := src.at.Lstat(a.from)
		if err != nil {
			return err
		}
		own := src.attributes(entry{stored: a.from, info: info}).Restorable(anybody)
		if err := dir.SetAttributes(".", own, s.keepOwner); err != nil {
			return err
		}
	}
	return dir.SyncFileSystem()
}

// emptyDir opens the directory r.To, which it makes unless it is there and empty.
func (r *Request) emptyDir() (dir *tree.Dir, made bool, err error) {
	to, err := filepath.Abs(r.To)
	if err != nil {
		return nil, false, err
	}
	dir, err = tree.Open(to, r.owners())
	if isMissing(err) {
		dir, err = tree.OpenOrMake(to, r.owners(), 0o750)
		return dir, true, err
	}
	if err != nil {
		return nil, false, err
	}
	for _, err := range dir.Entries() {
		if err == nil {
			err = fmt.Errorf("%s is not empty", r.To)
		}
		dir.Close()
		return nil, false, err
	}
	return dir, false, nil
}

// emptyAgain removes everything in dir, which was empty before, and dir itself
// when it was made.
func (r *Request) emptyAgain(dir *tree.Dir, made bool) error {
	var names []string
	for info, err := range dir.Entries() {
		if err != nil {
			return err
		}
		names = append(names, info.Name)
	}
	var all []error
	for _, name := range names {
		all = append(all, dir.RemoveAll(name))
	}
	if made {
		all = append(all, removeEmpty(dir.Path(), r.owners()))
	}
	return errors.Join(all...)
}
