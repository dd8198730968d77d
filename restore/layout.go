package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// layOut copies the artifacts below r.To, as a snapshot has them, and checks
// the copies. What it made is removed again when it fails.
func (r *Request) layOut(ctx context.Context, plan *Plan, res *Result) (err error) {
	made, err := emptyDir(r.To)
	if err != nil {
		return r.refuse(err, "name a directory that is empty or does not exist")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, emptyAgain(r.To, made))
		}
	}()
	parts, err := r.laidOut(plan.src)
	if err != nil {
		return err
	}
	s := &session{places: newPlaces(r.owners()), Journal: &Journal{}, share: r.Share, keepOwner: hasChown(), report: r.Progress}
	if !s.keepOwner {
		s.warn("only root can keep the owners of files; these belong to uid %d", os.Geteuid())
	}
	defer func() { res.Warnings = append(res.Warnings, s.warnings...) }()
	for _, p := range parts {
		err := s.layOutPart(ctx, p, plan.src)
		if err == nil && p.artifact == snapshot.DB {
			s.IntegrityOK, err = s.checkDB(ctx, p.live(), plan.src.valid())
		}
		if err != nil {
			return &failure.Error{Op: "restore", Subject: string(r.Stamp), Err: err, Hint: "nothing is left in " + r.To}
		}
		res.restored(p.artifact, true)
	}
	res.RestoredIntegrityOK = s.IntegrityOK
	return nil
}

// laidOut places a snapshot's artifacts below r.To under AtoCore's own names.
func (r *Request) laidOut(src *source) ([]part, error) {
	to := *r
	to.Live = Live{
		DB:       filepath.Join(r.To, filepath.FromSlash(snapshot.DBFile)),
		Registry: filepath.Join(r.To, filepath.FromSlash(snapshot.RegistryFile)),
		Chroma:   filepath.Join(r.To, snapshot.ChromaDir),
	}
	parts, _, err := to.parts(src)
	return parts, err
}

func (s *session) layOutPart(ctx context.Context, p part, src *source) error {
	if err := fsx.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	entries, err := p.entries(src)
	if err != nil {
		return err
	}
	if err := copyEntries(ctx, p.dir, entries, s.share, s.progress); err != nil {
		return err
	}
	if _, err := s.proveCopy(ctx, p.dir, entries, src); err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		a, err := storedAttributes(src, e.stored)
		if err != nil {
			return err
		}
		// Whoever empties the directory later finds no program that runs as its owner.
		if err := a.restorable(attributes{}).apply(filepath.Join(p.dir, e.rel), s.keepOwner); err != nil {
			return err
		}
	}
	if p.whole() {
		a, err := storedAttributes(src, p.from)
		if err != nil {
			return err
		}
		if err := a.restorable(attributes{}).apply(p.dir, s.keepOwner); err != nil {
			return err
		}
	}
	return syncFileSystem(p.dir)
}

// emptyDir makes dir unless it is there and empty.
func emptyDir(dir string) (made bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, fsx.MkdirAll(dir, 0o750)
	}
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty", dir)
	}
	return false, err
}

// emptyAgain removes everything in dir, which was empty before, and dir itself
// when it was made.
func emptyAgain(dir string, made bool) error {
	if made {
		return fsx.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, fsx.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
