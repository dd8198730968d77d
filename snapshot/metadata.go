package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

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

// ReadMetadata reads backup-metadata.json of the snapshot directory dir. A
// directory without one is fs.ErrNotExist. A key of another type than ours,
// or a time in another format, is unknown like a missing one: only a document
// that is no JSON object is an error.
func ReadMetadata(dir string) (*Metadata, error) {
	data, err := fsx.ReadRegular(filepath.Join(dir, MetadataFile), mostMetadata)
	if err != nil {
		return nil, err
	}
	if string(bytes.TrimSpace(data)) == "null" {
		return nil, errors.New("it is not a JSON object but null")
	}
	type plain Metadata
	var m plain
	lenient := struct {
		*plain
		CreatedAt json.RawMessage `json:"created_at"` // shadows that of plain
	}{plain: &m}
	var wrong *json.UnmarshalTypeError
	switch err := json.Unmarshal(data, &lenient); {
	case errors.As(err, &wrong) && wrong.Field == "":
		return nil, fmt.Errorf("it is not a JSON object but a %s", wrong.Value)
	case err != nil && wrong == nil:
		return nil, err
	}
	var created time.Time
	if json.Unmarshal(lenient.CreatedAt, &created) == nil && !created.IsZero() {
		m.CreatedAt = &created
	}
	return (*Metadata)(&m), nil
}
