package snapshot

import (
	"encoding/json"

	"github.com/atocore/atobackupd/internal/fsx"
)

func ptr[T any](v T) *T { return &v }

// writeJSON writes a document durably and atomically, indented for the people
// who will read it with cat. Its temporary is made in staging/, because a
// snapshot that is already published must not be left with a stray file.
func (s *Store) writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return fsx.WriteFileVia(s.staging(), path, append(data, '\n'), 0o640)
}

// What is read of a document of a snapshot, which may come from somebody else, at
// most. A manifest of 256 MiB names a million files, and only ours is read.
const (
	mostManifest = 256 << 20
	mostMetadata = 1 << 20
)
