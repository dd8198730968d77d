package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
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
	Note        string              `json:"note"`
	Suspect     []string            `json:"suspect"`     // codes of what had shrunk in the source
	AcceptedAt  *time.Time          `json:"accepted_at"` // when somebody said that this was meant
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
// directory. Mode (permission bits with setuid, setgid and sticky), UID, GID and
// MTime are those of the live file, which a restore gives back; the stored copy
// may have others. Size, digest and target are those of the stored copy.
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

// Validation is the judgement that was made when the snapshot was taken or
// adopted. DurationMS is the time that the checks took in milliseconds, without
// those that are part of copying Chroma.
type Validation struct {
	Valid      bool      `json:"valid"`
	Errors     []string  `json:"errors"`
	Warnings   []string  `json:"warnings"`
	CheckedAt  time.Time `json:"checked_at"`
	DurationMS int64     `json:"duration_ms"`
}

// errNewer is of a manifest that a later version of this program wrote.
var errNewer = errors.New("use a newer atobackupd")

// ReadManifest reads atobackupd.json of the snapshot directory dir. A directory
// without one is fs.ErrNotExist.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestFile)
	data, err := fsx.ReadRegular(path, mostManifest)
	if err != nil {
		return nil, err
	}
	// The schema first: another one may have other types.
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case version.Schema > Schema:
		return nil, fmt.Errorf("%s has schema %d, this program knows %d: %w", path, version.Schema, Schema, errNewer)
	case version.Schema != Schema:
		return nil, fmt.Errorf("%s has schema %d, which never was one", path, version.Schema)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &m, nil
}
