package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

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

// readDocument reads a regular file whole, if it has at most limit bytes. It
// follows no symbolic link and does not wait for the writer of a FIFO.
func readDocument(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link", filepath.Base(path))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", filepath.Base(path))
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has %d bytes, more than any that belongs here (%d)", filepath.Base(path),
			info.Size(),
			limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
