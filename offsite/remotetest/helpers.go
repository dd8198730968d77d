package remotetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// ageHeader is how every age file begins.
const ageHeader = "age-encryption.org/v1\n"

// stream returns size reproducible random bytes without holding them.
func stream(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

// put stores data under name, which must work.
func put(t *testing.T, r offsite.Remote, name, data string) {
	t.Helper()
	n, err := r.Put(context.Background(), name, bytes.NewBufferString(data))
	if err != nil || n != int64(len(data)) {
		t.Fatalf("Put(%s) = %d, %v, want %d bytes", name, n, err, len(data))
	}
}

// get reads the object under name, which must exist.
func get(t *testing.T, r offsite.Remote, name string) string {
	t.Helper()
	f, err := r.Open(context.Background(), name)
	if err != nil {
		t.Fatalf("Open(%s): %v", name, err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
	return string(data)
}

// digest returns length and SHA-256 of what r has left.
func digest(t *testing.T, r io.Reader) (int64, [sha256.Size]byte) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		t.Fatalf("reading after %d bytes: %v", n, err)
	}
	return n, [sha256.Size]byte(h.Sum(nil))
}

// wantMissing fails unless err says that what was named does not exist.
func wantMissing(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, fs.ErrNotExist) || failure.KindOf(err) != failure.NotFound {
		t.Errorf("%s: %v (kind %d), want fs.ErrNotExist of kind NotFound", what, err, failure.KindOf(err))
	}
}

// wantNothing fails if name exists, or if a failed Put left a partial behind.
func (s suite) wantNothing(t *testing.T, r offsite.Remote, name string) {
	t.Helper()
	_, err := r.Stat(context.Background(), name)
	wantMissing(t, "Stat("+name+") after a failed Put", err)
	if !s.opts.AppendOnly {
		s.wantNoPartials(t, r)
	}
}

// wantNoPartials fails if incoming/ holds anything.
func (s suite) wantNoPartials(t *testing.T, r offsite.Remote) {
	t.Helper()
	left, err := r.List(context.Background(), "incoming")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List(incoming): %v", err)
	}
	for _, e := range left {
		t.Errorf("incoming/%s was left behind", e.Name)
	}
}

// tree returns every path under dir, with what regular files hold.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			found[path] = ""
			return err
		}
		data, err := os.ReadFile(path)
		found[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
