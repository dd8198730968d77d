package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/fsx"
)

// maxDocument is the size up to which an object is kept on this machine: that of
// the small documents of a snapshot, never that of a pack.
const maxDocument = 256 << 10

// KeepDocuments keeps the small objects that are read in a directory of this
// machine, each under the version that the service gave it, so that one which was
// not changed is not asked for again. It is for a push, which needs to know what
// the vault holds; a verification reads what is there, and must not use it.
func (r *Remote) KeepDocuments(dir string) { r.documents = dir }

// documentPath returns where an object is kept; "" for one that is not.
func (r *Remote) documentPath(name string, o object) string {
	if r.documents == "" || o.Dir || o.Size > maxDocument || o.version == "" && o.etag == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(r.state.Where + "\x00" + name + "\x00" + o.version + "\x00" + o.etag))
	return filepath.Join(r.documents, hex.EncodeToString(sum[:]))
}

// readDocument returns what is kept. Its digest stands before it: what has rotted
// is fetched again.
func readDocument(path string, size int64) ([]byte, bool) {
	data, err := fsx.ReadRegular(path, sha256.Size+maxDocument)
	if err != nil || int64(len(data)) != sha256.Size+size {
		return nil, false
	}
	sum := sha256.Sum256(data[sha256.Size:])
	return data[sha256.Size:], bytes.Equal(sum[:], data[:sha256.Size])
}

// keepDocument reads an object whole and keeps it. That it could not be kept costs
// a request another time, no more.
func (r *Remote) keepDocument(path string, size int64, body io.ReadCloser) (io.ReadCloser, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	if int64(len(data)) == size {
		sum := sha256.Sum256(data)
		if err := fsx.MkdirAll(r.documents, 0o700); err == nil {
			_ = fsx.WriteFile(path, append(sum[:], data...), 0o600)
			r.usedDocument(path)
		}
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (r *Remote) usedDocument(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used == nil {
		r.used = map[string]bool{}
	}
	r.used[filepath.Base(path)] = true
}

// dropDocuments removes what this connection had no use for: what it is about is
// gone from the vault.
func (r *Remote) dropDocuments() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.documents == "" || len(r.used) == 0 {
		return
	}
	entries, err := os.ReadDir(r.documents)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !r.used[e.Name()] {
			_ = os.Remove(filepath.Join(r.documents, e.Name()))
		}
	}
}
