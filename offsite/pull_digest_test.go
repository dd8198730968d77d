package offsite

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// Pages become final in any order, and one worker may find that another has
// digested to the end what it has just written.
func TestFileDigestFollows(t *testing.T) {
	const size = 3*PageSize + 100
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i / 7)
	}
	sum := sha256.Sum256(data)
	m := &Manifest{
		Files: []FileEntry{
			{File: snapshot.File{Path: "f", Type: snapshot.TypeFile, Size: size, SHA256: hex.EncodeToString(sum[:])}},
		},
	}
	for _, order := range [][]int64{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {0, 3, 2, 1}} {
		root, err := tree.Open(t.TempDir(), tree.Trusted(""))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := root.WriteFile("f", data, 0o600); err != nil {
			t.Fatal(err)
		}
		f := &restorer{manifest: m, root: root, digests: make([]fileDigest, 1)}
		w, err := f.newPackReader(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		for i, page := range order {
			if f.digests[0].matches(&m.Files[0]) {
				t.Errorf("%v: done after %d pages", order, i)
			}
			if err := w.markWritten(0, page, page+1); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.hashReady(0); err != nil || !f.digests[0].matches(&m.Files[0]) {
			t.Errorf("%v: %v, next %d", order, err, f.digests[0].next)
		}
	}
}
