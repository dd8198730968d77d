package snapshot

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Names inside a snapshot directory, as AtoCore's own tools lay it out, and the
// one file that is ours.
const (
	MetadataFile = "backup-metadata.json"
	ManifestFile = "atobackupd.json"
	DBFile       = "db/atocore.db"
	RegistryFile = "config/project-registry.json"
	ChromaDir    = "chroma"
)

// Artifact names as they stand in a manifest.
const (
	DB       = "db"
	Registry = "registry"
	Chroma   = "chroma"
)

// Schema is the version of the manifest that this program writes. A higher one
// is refused: it may mean something that this program does not know.
const Schema = 1

// Manifest is atobackupd.json: every file of a snapshot with its digest, where
// it came from, and how its validation went.
type Manifest struct {
	Schema      int                 `json:"schema"`
	Stamp       Stamp               `json:"stamp"`
	Kind        Kind                `json:"kind"`
	Host        string              `json:"host"`
	ToolVersion string              `json:"tool_version"`
	StartedAt   time.Time           `json:"started_at"`
	FinishedAt  time.Time           `json:"finished_at"`
	Artifacts   map[string]Artifact `json:"artifacts"`
	DB          *DBInfo             `json:"db,omitempty"`
	Files       []File              `json:"files"`
	Roots       map[string]Root     `json:"roots"`
	Validation  Validation          `json:"validation"`
	Pinned      bool                `json:"pinned"`
}

// Artifact tells about one thing that is backed up.
type Artifact struct {
	Included    bool   `json:"included"`
	Method      string `json:"method"`
	SourcePath  string `json:"source_path"`
	Bytes       int64  `json:"bytes"`
	Files       int    `json:"files"`
	Consistency string `json:"consistency"`
}

// Values of Artifact.Consistency.
const (
	Consistent = "consistent"
	Unverified = "unverified"
)

// DBInfo describes the database, for drills and for people who compare.
type DBInfo struct {
	PageSize            int64            `json:"page_size"`
	PageCount           int64            `json:"page_count"`
	UserVersion         int64            `json:"user_version"`
	ApplicationID       int64            `json:"application_id"`
	JournalModeOfSource string           `json:"journal_mode_of_source"`
	Tables              map[string]int64 `json:"tables"`
}

// Types of a File.
const (
	TypeFile    = "file"
	TypeDir     = "dir"
	TypeSymlink = "symlink"
)

// File is one entry of a snapshot: a regular file, a directory or a symbolic
// link that stays inside. Path is slash-separated and relative to the snapshot
// directory. Mode (permission bits with setuid, setgid and sticky), UID and GID
// are those of the live file, which a restore gives back; the stored copy may
// have others.
type File struct {
	Path   string    `json:"path"`
	Type   string    `json:"type"`
	Size   int64     `json:"size"`
	Mode   uint32    `json:"mode"`
	UID    int       `json:"uid"`
	GID    int       `json:"gid"`
	MTime  time.Time `json:"mtime"`
	SHA256 string    `json:"sha256,omitempty"`
	Target string    `json:"target,omitempty"`
}

// Root is a directory that held a live artifact: what a restore onto an empty
// disk has to make.
type Root struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// Validation is the judgement that was made when the snapshot was taken.
type Validation struct {
	Valid      bool      `json:"valid"`
	Errors     []string  `json:"errors"`
	Warnings   []string  `json:"warnings"`
	CheckedAt  time.Time `json:"checked_at"`
	DurationMS int64     `json:"duration_ms"`
}

// Metadata is backup-metadata.json, which AtoCore's own tools write and read.
// A key that an older tool did not write is absent, not an error, so every
// field that matters is a pointer: nil is "unknown".
type Metadata struct {
	CreatedAt              *time.Time `json:"created_at,omitempty"`
	BackupRoot             *string    `json:"backup_root,omitempty"`
	DBSnapshotPath         *string    `json:"db_snapshot_path,omitempty"`
	DBSizeBytes            *int64     `json:"db_size_bytes,omitempty"`
	RegistrySnapshotPath   *string    `json:"registry_snapshot_path,omitempty"`
	RegistrySizeBytes      *int64     `json:"registry_size_bytes,omitempty"`
	IncludeChroma          *bool      `json:"include_chroma,omitempty"`
	ChromaSnapshotIncluded *bool      `json:"chroma_snapshot_included,omitempty"`
	ChromaSnapshotPath     *string    `json:"chroma_snapshot_path,omitempty"`
	ChromaSnapshotBytes    *int64     `json:"chroma_snapshot_bytes,omitempty"`
	ChromaSnapshotFiles    *int64     `json:"chroma_snapshot_files,omitempty"`
	VectorStoreNote        *string    `json:"vector_store_note,omitempty"`
	CreatedBy              *string    `json:"created_by,omitempty"`
}

// NewMetadata derives backup-metadata.json from our manifest, for a snapshot
// that will lie at root.
func NewMetadata(m *Manifest, root string) *Metadata {
	at := func(included bool, name string) *string {
		if !included {
			return ptr("")
		}
		return ptr(filepath.Join(root, filepath.FromSlash(name)))
	}
	db, registry, chroma := m.Artifacts[DB], m.Artifacts[Registry], m.Artifacts[Chroma]
	note := "Chroma is not part of this snapshot: restore an older full one, or rebuild the vectors by ingestion."
	if chroma.Included {
		note = fmt.Sprintf("Chroma was copied while in use (%s) and checked: %s.", chroma.Method, chroma.Consistency)
	}
	return &Metadata{
		CreatedAt:              ptr(m.StartedAt.UTC().Truncate(time.Second)),
		BackupRoot:             &root,
		DBSnapshotPath:         at(db.Included, DBFile),
		DBSizeBytes:            &db.Bytes,
		RegistrySnapshotPath:   at(registry.Included, RegistryFile),
		RegistrySizeBytes:      &registry.Bytes,
		IncludeChroma:          &chroma.Included,
		ChromaSnapshotIncluded: &chroma.Included,
		ChromaSnapshotPath:     at(chroma.Included, ChromaDir),
		ChromaSnapshotBytes:    &chroma.Bytes,
		ChromaSnapshotFiles:    ptr(int64(chroma.Files)),
		VectorStoreNote:        &note,
		CreatedBy:              ptr("atobackupd " + m.ToolVersion),
	}
}

func ptr[T any](v T) *T { return &v }

// writeJSON writes a document durably and atomically, indented for the people
// who will read it with cat.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return fsx.WriteFile(path, append(data, '\n'), 0o640)
}

// maxJSON bounds what is read from a JSON file of a snapshot, which may come
// from somebody else's disk: 256 MiB hold the manifest of a million files.
const maxJSON = 256 << 20

func readJSON(path string, v any) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > maxJSON {
		return fmt.Errorf("%s has %d bytes, more than any manifest", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// ReadManifest reads atobackupd.json of the snapshot directory dir. A directory
// without one gives fs.ErrNotExist.
func ReadManifest(dir string) (*Manifest, error) {
	var m Manifest
	if err := readJSON(filepath.Join(dir, ManifestFile), &m); err != nil {
		return nil, err
	}
	if m.Schema != Schema {
		return nil, fmt.Errorf("%s has schema %d, this program knows %d: use a newer atobackupd", filepath.Join(dir, ManifestFile), m.Schema, Schema)
	}
	return &m, nil
}

// ReadMetadata reads backup-metadata.json of the snapshot directory dir. A
// directory without one gives fs.ErrNotExist.
func ReadMetadata(dir string) (*Metadata, error) {
	var m Metadata
	if err := readJSON(filepath.Join(dir, MetadataFile), &m); err != nil {
		return nil, err
	}
	return &m, nil
}
