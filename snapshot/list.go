package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// Snapshot is one published snapshot as the catalog shows it.
type Snapshot struct {
	Stamp          Stamp
	Path           string
	Kind           Kind
	Full           bool      // it holds Chroma
	Foreign        bool      // somebody else can change it: it counts for nothing, and is never touched
	Valid          *bool     // nil: it was never validated
	Checked        time.Time // when Valid was found out; zero when it was not
	InvalidSince   time.Time // when a check found it invalid first, where the caller knows that; List does not
	Errors         []string  // of that validation
	Pinned         bool
	Bytes          int64 // of its files
	BytesExclusive int64 // of the files that no other snapshot shares by a hard link
	CreatedAt      time.Time
	Manifest       *Manifest // nil for one that AtoCore's own tools made
	RawMetadata    json.RawMessage
}

// IsValid reports whether the snapshot was found valid, and nothing since says
// otherwise.
func (s *Snapshot) IsValid() bool { return s.Valid != nil && *s.Valid }

// beingMade is how long a directory without any metadata is taken for one that
// AtoCore is still writing.
const beingMade = time.Hour

// List returns every published snapshot, oldest first, and warnings about what
// looks wrong. Directories that AtoCore is still writing are left out, with a
// warning when that goes on for more than an hour.
func (s *Store) List(now time.Time) (list []Snapshot, warnings []string, err error) {
	stamps, strangers, err := s.stamps()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, []string{
			s.snapshots() + " does not exist: is its disk mounted? the first `atobackupd backup` makes it",
		}, nil
	}
	if errors.Is(err, unix.ENOTDIR) {
		err = &failure.Error{Op: "backup.dir", Subject: s.dir, Kind: failure.Config, Err: errors.New("not a directory"),
			Hint: "move it away, and make the directory, owned by the user that atobackupd runs as"}
	}
	if err != nil {
		return nil, nil, err
	}
	for _, name := range strangers {
		warnings = append(
			warnings,
			fmt.Sprintf("%s is not a snapshot: it does not belong there", filepath.Join(s.snapshots(), name)),
		)
	}
	for _, stamp := range stamps {
		snap, err := s.load(stamp, now)
		switch {
		case errors.Is(err, errBeingMade):
			if info, err := os.Lstat(s.Path(stamp)); err == nil && now.Sub(info.ModTime()) > beingMade {
				warnings = append(
					warnings,
					fmt.Sprintf(
						"%s has no %s for more than an hour: whoever made it did not finish",
						s.Path(stamp),
						MetadataFile,
					),
				)
			}
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue // pruned since its name was read
		case err != nil:
			warnings = append(warnings, err.Error())
		}
		list = append(list, snap)
	}
	return list, warnings, nil
}

// stamps returns the names in snapshots/, oldest first: those of directories that
// may be snapshots, and the others.
func (s *Store) stamps() (stamps []Stamp, strangers []string, err error) {
	entries, err := os.ReadDir(s.snapshots())
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		stamp, err := ParseStamp(entry.Name())
		if err != nil || !entry.IsDir() {
			strangers = append(strangers, entry.Name())
			continue
		}
		stamps = append(stamps, stamp)
	}
	return stamps, strangers, nil
}

// Get returns one published snapshot; kind NotFound when there is none. One whose
// manifest cannot be read comes with an error and marked as invalid.
func (s *Store) Get(stamp Stamp) (Snapshot, error) {
	snap, err := s.load(stamp, time.Now())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBeingMade) {
		return Snapshot{}, s.missing(stamp)
	}
	return snap, err
}

// errBeingMade marks a directory in snapshots/ without metadata.
var errBeingMade = errors.New("it has no metadata yet")

// load reads what is known about one snapshot. A snapshot whose manifest cannot
// be read comes with an error and as invalid, so that it is seen and never counted.
func (s *Store) load(stamp Stamp, now time.Time) (Snapshot, error) {
	dir := s.Path(stamp)
	info, err := os.Lstat(dir)
	if err != nil {
		return Snapshot{}, err
	}
	if !info.IsDir() {
		return Snapshot{}, fs.ErrNotExist
	}
	raw, rawErr := fsx.ReadRegular(filepath.Join(dir, MetadataFile), mostMetadata)
	var manifest *Manifest
	foreign := s.isForeign(info)
	if err = fs.ErrNotExist; !foreign { // what a stranger writes of it is not believed
		manifest, err = ReadManifest(dir)
	}
	if errors.Is(err, fs.ErrNotExist) && errors.Is(rawErr, fs.ErrNotExist) {
		return Snapshot{}, errBeingMade
	}
	snap := s.found(stamp)
	snap.Foreign = foreign
	if rawErr == nil && json.Valid(raw) {
		snap.RawMetadata = raw
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return snap, nil
	case err != nil:
		snap.Valid, snap.Errors = ptr(false), []string{finding("metadata_invalid_json", err.Error())}
		if !isJSONError(err) {
			// Written by a later version, or not readable at this moment: that says
			// nothing against what it describes. An invalid snapshot is deleted some
			// days after it was found to be so, and these days must not run.
			snap.Checked = now
		}
		return snap, fmt.Errorf("%s: %w", dir, err)
	}
	snap.describe(manifest)
	snap.lookAtFiles(now)
	if manifest.Stamp != stamp {
		text := fmt.Sprintf("%s is the manifest of %s", ManifestFile, manifest.Stamp)
		snap.Valid, snap.Errors = ptr(false), []string{finding("metadata_invalid_json", text)}
		return snap, fmt.Errorf("%s: %s", dir, text)
	}
	return snap, nil
}

func isJSONError(err error) bool {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &wrong)
}

// found is a published snapshot of which only the directory is known.
func (s *Store) found(stamp Stamp) Snapshot {
	snap := Snapshot{Stamp: stamp, Path: s.Path(stamp), Kind: Adopted, CreatedAt: stamp.Time()}
	snap.Bytes, snap.BytesExclusive, snap.Full = measure(snap.Path)
	return snap
}

// describe fills in what the manifest says.
func (s *Snapshot) describe(m *Manifest) {
	s.Manifest, s.Kind, s.Pinned = m, m.Kind, m.Pinned
	s.Full = m.Artifacts[Chroma].Included
	s.Valid, s.Errors, s.Checked = &m.Validation.Valid, m.Validation.Errors, m.Validation.CheckedAt
}

// lookAtFiles looks whether everything that the manifest names is there, of its
// type and size: what was written down once is a claim, and a snapshot whose files
// are missing or short is not valid from that moment. What is in them, Validate
// finds out.
func (s *Snapshot) lookAtFiles(now time.Time) {
	if !s.IsValid() {
		return
	}
	var found []string
	for _, f := range s.Manifest.Files {
		disk, err := describe(filepath.Join(s.Path, filepath.FromSlash(f.Path)), f.Path)
		if err != nil {
			found = append(found, finding("file_missing", fmt.Sprintf("%s: %v", f.Path, reason(err))))
		} else if code, text := compareEntry(disk, f); code != "" {
			found = append(found, finding(code, text))
		}
		if len(found) == maxLookedAt {
			break
		}
	}
	if len(found) > 0 {
		s.Valid, s.Errors, s.Checked = ptr(false), found, now
	}
}

// maxLookedAt is how many missing files are named.
const maxLookedAt = 20

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
