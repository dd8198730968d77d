package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// Store is the directory that holds the snapshots of this machine.
type Store struct {
	dir string
}

// beingMade is how long a directory without any metadata is taken for one that
// AtoCore is still writing.
const beingMade = time.Hour

// Open prepares the store at dir, which it makes when it is missing, and checks
// that a finished snapshot can be renamed into place.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	for _, sub := range []string{s.snapshots(), s.staging(), s.quarantine()} {
		if err := fsx.MkdirAll(sub, 0o750); err != nil {
			return nil, &failure.Error{Op: "backup.dir", Subject: dir, Kind: failure.Config, Err: err,
				Hint: "make the directory, owned by the user that atobackupd runs as"}
		}
	}
	published, err := fsx.MountID(s.snapshots())
	if err != nil {
		return nil, err
	}
	staged, err := fsx.MountID(s.staging())
	if err != nil {
		return nil, err
	}
	if published != staged {
		return nil, &failure.Error{Op: "backup.dir", Subject: dir, Kind: failure.Config,
			Err:  errors.New("staging/ and snapshots/ lie on different mounts, so a finished snapshot cannot be renamed into place"),
			Hint: "mount the backup directory as a whole"}
	}
	return s, nil
}

// OpenExisting gives the store at dir for reading; it makes nothing. A directory
// that is not there is a store with no snapshots: List warns about it.
func OpenExisting(dir string) (*Store, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, &failure.Error{Op: "backup.dir", Subject: dir, Kind: failure.Config, Err: errors.New("not a directory")}
	}
	return &Store{dir: dir}, nil
}

// Dir is the store's own directory.
func (s *Store) Dir() string { return s.dir }

// Path is where the snapshot named stamp lies, whether it exists or not.
func (s *Store) Path(stamp Stamp) string { return filepath.Join(s.snapshots(), string(stamp)) }

func (s *Store) snapshots() string  { return filepath.Join(s.dir, "snapshots") }
func (s *Store) staging() string    { return filepath.Join(s.dir, "staging") }
func (s *Store) quarantine() string { return filepath.Join(s.dir, "quarantine") }

// Lock takes the main lock, which take, prune, restore and sync-prune hold one
// at a time. See fsx.LockFile for waiting and timeout.
func (s *Store) Lock(ctx context.Context, purpose string, timeout time.Duration, waiting func(holder string)) (*fsx.Lock, error) {
	return fsx.LockFile(ctx, filepath.Join(s.dir, ".lock"), purpose, timeout, waiting)
}

// Hold takes the shared lock on a snapshot that keeps prune away from it. Who
// reads a snapshot for long holds it meanwhile.
func (s *Store) Hold(stamp Stamp) (*fsx.Lock, error) {
	lock, ok, err := fsx.LockDir(s.Path(stamp), false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, s.missing(stamp)
	case err != nil:
		return nil, err
	case !ok:
		return nil, &failure.Error{Op: "lock", Subject: string(stamp), Kind: failure.Locked, Err: errors.New("it is being pruned")}
	}
	return lock, nil
}

func (s *Store) missing(stamp Stamp) error {
	return &failure.Error{Op: "snapshot", Subject: string(stamp), Kind: failure.NotFound,
		Err: fmt.Errorf("no such snapshot in %s", s.snapshots()), Hint: "see `atobackupd list`"}
}

// Snapshot is one published snapshot as the catalog shows it.
type Snapshot struct {
	Stamp          Stamp
	Path           string
	Kind           Kind
	Full           bool      // it holds Chroma
	Valid          *bool     // nil: it was never validated
	Checked        time.Time // when Valid was found out; zero when it was not
	Errors         []string  // of that validation
	Pinned         bool
	Bytes          int64 // of its files
	BytesExclusive int64 // of the files that no other snapshot shares by a hard link
	CreatedAt      time.Time
	Manifest       *Manifest // nil for one that AtoCore's own tools made
	RawMetadata    json.RawMessage
}

// IsValid tells whether the snapshot was found valid, and nothing since says
// otherwise.
func (s *Snapshot) IsValid() bool { return s.Valid != nil && *s.Valid }

// List gives every published snapshot, oldest first, and warnings about what
// looks wrong. Directories that AtoCore is still writing are left out, with a
// warning when that goes on for more than an hour.
func (s *Store) List(now time.Time) (list []Snapshot, warnings []string, err error) {
	entries, err := os.ReadDir(s.snapshots())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, []string{s.snapshots() + " does not exist: is its disk mounted? the first `atobackupd backup` makes it"}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		stamp, err := ParseStamp(entry.Name())
		if err != nil || !entry.IsDir() {
			warnings = append(warnings, fmt.Sprintf("%s is not a snapshot: it does not belong there", filepath.Join(s.snapshots(), entry.Name())))
			continue
		}
		snap, err := s.load(stamp)
		switch {
		case errors.Is(err, errBeingMade):
			if info, err := entry.Info(); err == nil && now.Sub(info.ModTime()) > beingMade {
				warnings = append(warnings, fmt.Sprintf("%s has no %s for more than an hour: whoever made it did not finish", s.Path(stamp), MetadataFile))
			}
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue // pruned between ReadDir and now
		case err != nil:
			warnings = append(warnings, err.Error())
		}
		list = append(list, snap)
	}
	return list, warnings, nil
}

// Get gives one published snapshot; kind NotFound when there is none.
func (s *Store) Get(stamp Stamp) (Snapshot, error) {
	snap, err := s.load(stamp)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBeingMade) {
		return Snapshot{}, s.missing(stamp)
	}
	return snap, err
}

// errBeingMade marks a directory in snapshots/ without metadata.
var errBeingMade = errors.New("it has no metadata yet")

// load reads what is known about one snapshot. A snapshot whose manifest cannot
// be read comes with an error and as invalid, so that it is seen and never counted.
func (s *Store) load(stamp Stamp) (Snapshot, error) {
	dir := s.Path(stamp)
	if _, err := os.Lstat(dir); err != nil {
		return Snapshot{}, err
	}
	snap := Snapshot{Stamp: stamp, Path: dir, Kind: Adopted, CreatedAt: stamp.Time()}
	snap.Bytes, snap.BytesExclusive, snap.Full = measure(dir)
	raw, rawErr := os.ReadFile(filepath.Join(dir, MetadataFile))
	if rawErr == nil && json.Valid(raw) {
		snap.RawMetadata = raw
	}
	manifest, err := ReadManifest(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && rawErr != nil:
		return Snapshot{}, errBeingMade
	case errors.Is(err, fs.ErrNotExist):
		return snap, nil
	case err != nil:
		snap.Valid, snap.Errors = ptr(false), []string{"metadata_invalid_json: " + err.Error()}
		return snap, err
	}
	snap.Manifest = manifest
	snap.Kind = manifest.Kind
	snap.Pinned = manifest.Pinned
	snap.Full = manifest.Artifacts[Chroma].Included
	snap.Valid, snap.Errors, snap.Checked = &manifest.Validation.Valid, manifest.Validation.Errors, manifest.Validation.CheckedAt
	if manifest.Stamp != stamp {
		snap.Valid, snap.Errors = ptr(false), []string{fmt.Sprintf("metadata_invalid_json: %s is the manifest of %s", ManifestFile, manifest.Stamp)}
		return snap, fmt.Errorf("%s: its %s is that of %s", dir, ManifestFile, manifest.Stamp)
	}
	return snap, nil
}

// measure adds up a snapshot's regular files, and those that it alone holds.
func measure(dir string) (bytes, exclusive int64, full bool) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is counted without what cannot be read
		}
		if entry.IsDir() {
			full = full || path == filepath.Join(dir, ChromaDir)
			return nil
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		bytes += info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink == 1 {
			exclusive += info.Size()
		}
		return nil
	})
	return bytes, exclusive, full
}

// Pin marks a snapshot so that prune keeps it, or takes the mark away. A
// snapshot that has no manifest of ours cannot carry the mark: it is adopted
// first (see Adopt).
func (s *Store) Pin(stamp Stamp, pinned bool) error {
	snap, err := s.Get(stamp)
	if err != nil {
		return err
	}
	if snap.Manifest == nil {
		return &failure.Error{Op: "pin", Subject: string(stamp), Kind: failure.Invalid,
			Err: errors.New("it was made by AtoCore's own tools and not adopted yet"), Hint: "validate it first: atobackupd validate " + string(stamp)}
	}
	if snap.Manifest.Pinned == pinned {
		return nil
	}
	snap.Manifest.Pinned = pinned
	return writeJSON(filepath.Join(snap.Path, ManifestFile), snap.Manifest)
}

// Sweep removes what interrupted runs left in staging/. The caller holds the
// main lock: only then is everything there abandoned.
func (s *Store) Sweep() (removed []string, err error) {
	entries, err := os.ReadDir(s.staging())
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if err := fsx.RemoveAll(filepath.Join(s.staging(), entry.Name())); err != nil {
			return removed, err
		}
		removed = append(removed, entry.Name())
	}
	return removed, nil
}

// SweepQuarantine removes what has been in quarantine/ for longer than keep.
func (s *Store) SweepQuarantine(now time.Time, keep time.Duration) (removed []string, err error) {
	entries, err := os.ReadDir(s.quarantine())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry.Name(), ".")
		stamp, err := ParseStamp(name)
		if err != nil || now.Sub(stamp.Time()) <= keep {
			continue
		}
		if err := fsx.RemoveAll(filepath.Join(s.quarantine(), entry.Name())); err != nil {
			return removed, err
		}
		removed = append(removed, entry.Name())
	}
	return removed, nil
}

// Delete removes a published snapshot: renamed to staging/ first, so that an
// interrupted removal leaves no half snapshot, and only while nobody reads it
// (kind Locked otherwise). The caller holds the main lock.
func (s *Store) Delete(stamp Stamp) error {
	path := s.Path(stamp)
	lock, ok, err := fsx.LockDir(path, true)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.missing(stamp)
	case err != nil:
		return err
	case !ok:
		return &failure.Error{Op: "prune", Subject: string(stamp), Kind: failure.Locked, Err: errors.New("it is being read"), Hint: "the next prune will look again"}
	}
	defer lock.Unlock()
	aside, err := os.MkdirTemp(s.staging(), string(stamp)+".prune-*")
	if err != nil {
		return err
	}
	if err := fsx.Rename(path, filepath.Join(aside, string(stamp))); err != nil {
		return &failure.Error{Op: "prune", Subject: string(stamp), Err: err, Hint: "this process must own the snapshot or its directory"}
	}
	return fsx.RemoveAll(aside)
}
