package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// Donor is a snapshot directory whose files may take the place of damaged ones:
// another snapshot of this machine, or one that was fetched from a vault.
type Donor struct {
	Name  string // for people, such as the stamp or the vault's name
	Dir   string
	Files []File // what it should hold
}

// RepairPlan says what is damaged in one snapshot and what would heal it.
type RepairPlan struct {
	Stamp Stamp        `json:"stamp"`
	Files []RepairFile `json:"files"`
}

// RepairFile is one damaged path. Source is where a good copy lies; "" where
// none was found, or where none is needed because the path does not belong there.
type RepairFile struct {
	Path   string `json:"path"`
	Why    string `json:"why"` // a finding of Validate
	Source string `json:"source"`

	want File
	from string // the good copy; "" for one that is made from the manifest
}

// Complete reports whether everything that is damaged can be healed.
func (r RepairPlan) Complete() bool {
	for _, f := range r.Files {
		if f.Source == "" {
			return false
		}
	}
	return true
}

// Damaged returns what the plan found damaged.
func (r RepairPlan) Damaged() (all []Damage) {
	for _, f := range r.Files {
		all = append(all, Damage{f.Path, f.Why})
	}
	return all
}

// fromManifest is the source of what the manifest itself holds: directories,
// links, and the metadata for AtoCore's own tools.
const fromManifest = "the manifest"

// PlanRepair looks for good copies of what is damaged in a snapshot, and changes
// nothing. A copy counts only when it was read and has the digest that m says: a
// hard link to the damaged file has not. m is the snapshot's own manifest, or
// one that is to be trusted more. The error is for what kept it from looking.
func (s *Store) PlanRepair(ctx context.Context, stamp Stamp, m *Manifest, donors []Donor) (RepairPlan, error) {
	return s.planRepair(ctx, s.Path(stamp), stamp, m, donors)
}

// planRepair is PlanRepair of a snapshot that lies in dir.
func (s *Store) planRepair(ctx context.Context, dir string, stamp Stamp, m *Manifest,
	donors []Donor) (RepairPlan, error) {
	r := RepairPlan{Stamp: stamp, Files: []RepairFile{}}
	metadata, _ := ReadMetadata(dir) // where it is damaged, the names are the usual ones
	found := newResult(string(stamp), dir)
	if err := checkFiles(ctx, dir, m, ContentOf(dir, m, metadata), ValidateOptions{}, &found); err != nil {
		return r, err
	}
	want := filesByPath(m)
	for _, d := range found.damaged {
		file := RepairFile{Path: d.Path, Why: d.Why}
		var known bool
		if file.want, known = want[d.Path]; known {
			if err := s.findGood(ctx, &file, stamp, m, donors); err != nil {
				return r, err
			}
		}
		r.Files = append(r.Files, file)
	}
	return r, nil
}

// findGood finds a good copy of a damaged file.
func (s *Store) findGood(ctx context.Context, f *RepairFile, stamp Stamp, m *Manifest, donors []Donor) error {
	if f.want.Type != TypeFile {
		f.Source = fromManifest
		return nil
	}
	for _, donor := range donors {
		for _, candidate := range donor.Files {
			if candidate.Type != TypeFile || candidate.SHA256 != f.want.SHA256 || candidate.Size != f.want.Size {
				continue
			}
			sum, err := digestOf(ctx, donor.Dir, candidate.Path)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err == nil && sum == f.want.SHA256 {
				f.Source, f.from = donor.Name, filepath.Join(donor.Dir, filepath.FromSlash(candidate.Path))
				return nil
			}
		}
	}
	if f.Path != MetadataFile {
		return nil
	}
	made, err := s.remakeMetadata(ctx, stamp, m)
	if err == nil && made.sum == f.want.SHA256 {
		f.Source = fromManifest
	}
	return errors.Join(err, os.Remove(made.path))
}

// rebuilt is a file that was made in staging/.
type rebuilt struct{ path, sum string }

// remakeMetadata writes the metadata of one of our snapshots anew. The caller
// removes it.
func (s *Store) remakeMetadata(ctx context.Context, stamp Stamp, m *Manifest) (rebuilt, error) {
	path := filepath.Join(s.staging(), string(stamp)+".metadata")
	if err := s.writeJSON(path, NewMetadata(m, s.Path(stamp))); err != nil {
		return rebuilt{path: path}, err
	}
	sum, err := digestOf(ctx, s.staging(), filepath.Base(path))
	return rebuilt{path, sum}, err
}

// Repair puts good copies in the place of what is damaged, as planned, each
// atomically and durably, and makes m the snapshot's manifest where it is
// another. What has no source stays as it is. A copy shares no blocks with its
// source. The caller holds the main lock, and validates the snapshot after it.
func (s *Store) Repair(ctx context.Context, r RepairPlan, m *Manifest) error {
	return s.repair(ctx, s.Path(r.Stamp), r, m)
}

// Recreate puts a snapshot that is gone back from donors that hold all of it: it is
// laid out in staging/ and published whole, as when it was taken. The caller holds the
// main lock, and validates the snapshot after it.
func (s *Store) Recreate(ctx context.Context, stamp Stamp, m *Manifest, donors []Donor) (r RepairPlan, err error) {
	dir, err := fsx.MkdirTemp(s.staging(), string(stamp)+".", 0o750)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, fsx.RemoveAll(dir))
		}
	}()
	if r, err = s.planRepair(ctx, dir, stamp, m, donors); err != nil {
		return r, err
	}
	if !r.Complete() {
		return r, errors.New("not all that it held has a good copy")
	}
	if err := s.repair(ctx, dir, r, m); err != nil {
		return r, err
	}
	if err := fsx.SyncDirs(dir); err != nil {
		return r, err
	}
	return r, fsx.RenameNoReplace(dir, s.Path(stamp))
}

// repair is Repair of a snapshot that lies in dir.
func (s *Store) repair(ctx context.Context, dir string, r RepairPlan, m *Manifest) error {
	for _, f := range r.Files {
		if f.Source == "" {
			continue
		}
		if err := s.repairFile(ctx, dir, r.Stamp, f, m); err != nil {
			return &failure.Error{
				Op:      "repair",
				Subject: string(r.Stamp) + "/" + f.Path,
				Kind:    failure.KindOf(err),
				Err:     err,
				Hint:    "what was healed before it stays so; run it again",
			}
		}
	}
	if own, err := ReadManifest(dir); err == nil && sameFiles(own.Files, m.Files) {
		return nil
	}
	return s.writeJSON(filepath.Join(dir, ManifestFile), m)
}

func sameFiles(a, b []File) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Path != b[i].Path || a[i].SHA256 != b[i].SHA256 || a[i].Size != b[i].Size || a[i].Type != b[i].Type ||
			a[i].Target != b[i].Target {
			return false
		}
	}
	return true
}

func (s *Store) repairFile(ctx context.Context, dir string, stamp Stamp, f RepairFile, m *Manifest) error {
	if !filepath.IsLocal(filepath.FromSlash(f.Path)) { // a manifest may be somebody else's
		return fmt.Errorf("the path %q leaves the snapshot", f.Path)
	}
	path := filepath.Join(dir, filepath.FromSlash(f.Path))
	if info, err := lstatInside(dir, filepath.FromSlash(f.Path)); err == nil &&
		(info.IsDir() || f.want.Type != TypeFile) {
		if err := fsx.RemoveAll(path); err != nil { // it should be something else
			return err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch f.want.Type {
	case TypeDir:
		return fsx.MkdirAll(path, 0o750)
	case TypeSymlink:
		if err := fsx.Announce(fsx.OpLink, path); err != nil {
			return err
		}
		return errors.Join(os.Symlink(f.want.Target, path), fsx.SyncDir(filepath.Dir(path)))
	}
	good := filepath.Join(s.staging(), string(stamp)+".healing")
	if f.from == "" {
		made, err := s.remakeMetadata(ctx, stamp, m)
		defer os.Remove(made.path)
		if err != nil {
			return err
		}
		f.from = made.path
	}
	if err := os.Remove(good); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a run that died
		return err
	}
	if _, err := fsx.CopyFile(ctx, good, f.from, storedMode(f.want.Mode), false); err != nil {
		return err
	}
	defer os.Remove(good)
	if sum, err := digestOf(ctx, s.staging(), filepath.Base(good)); err != nil || sum != f.want.SHA256 {
		return cmp.Or(err, errors.New("the good copy changed meanwhile"))
	}
	if err := os.Chtimes(good, f.want.MTime, f.want.MTime); err != nil {
		return err
	}
	return fsx.Rename(good, path)
}
