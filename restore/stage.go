package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// openSet makes the workspace of an artifact.
func (s *session) openSet(a *artifact) (_ *swapSet, err error) {
	t := &swapSet{Artifact: a.name, Dir: a.dir, Work: path.Join(workDir(a.dir, s.Stamp), a.name), Whole: a.whole(),
		Root: a.newOwner, Entries: []*swapEntry{}}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.live, err = a.at.OpenDir("."); err != nil {
		return nil, err
	}
	t.Leaves = t.Whole && isOverlay(t.live)
	return t, t.makeWorkspace(s.Stamp)
}

// stage copies an artifact into its workspace, durably, with the owners and modes
// that it will have, and proves the copy. The live files are only looked at.
func (s *session) stage(ctx context.Context, t *swapSet, a *artifact, src *source) error {
	s.progress.Tell("copy "+a.name, 0, 0)
	entries, leftOut, err := a.entries(src)
	if err != nil {
		return err
	}
	for _, what := range leftOut {
		s.warn("%s: it was not restored", what)
	}
	if err := copyEntries(ctx, t.fresh, src.at, entries, s.share, s.progress); err != nil {
		return err
	}
	if err := s.proveCopy(ctx, t.fresh, entries, src); err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) { // a directory after what is in it
		attributes, err := a.wanted(src, e)
		if err != nil {
			return err
		}
		if err := t.fresh.SetAttributes(e.rel, attributes, s.keepOwner); err != nil {
			return err
		}
	}
	return t.fresh.SyncFileSystem()
}

// copyEntries copies entries into dir, which is empty, without making them
// durable: a directory of 100,000 files is made durable by one flush of the file
// system. Attributes come later: a directory may not be writable.
func copyEntries(ctx context.Context, dir, from *tree.Dir, entries []entry, share bool, progress fsx.Progress) error {
	copied := progress.Count("copy", 0)
	for _, e := range entries {
		var err error
		switch {
		case e.info.IsDir():
			var made *tree.Dir
			if made, err = dir.Mkdir(e.rel, 0o700); err == nil {
				made.Close()
			}
		case e.info.IsLink():
			err = dir.Symlink(e.target, e.rel)
		default:
			err = copyFile(ctx, dir, e.rel, from, e.stored, share)
			copied(e.info.Size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies one file into a new one, without an fsync.
func copyFile(ctx context.Context, dir *tree.Dir, name string, from *tree.Dir, stored string, share bool) (err error) {
	in, err := from.OpenFile(stored)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dir.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = fsx.CloneOrCopy(ctx, out, in, share)
	return err
}

// proveCopy reads every copied file back and compares it with the manifest's
// digest, or with the stored file where there is none that can be believed.
func (s *session) proveCopy(ctx context.Context, dir *tree.Dir, entries []entry, src *source) error {
	s.progress.Tell("check the copies", 0, 0)
	read := s.progress.Count("checksums", 0)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, e := range entries {
		if !e.info.IsRegular() {
			continue
		}
		group.Go(func() error {
			sum, err := digest(ctx, dir, e.rel, read)
			if err != nil {
				return err
			}
			want, err := src.digestOf(ctx, e.stored)
			if err == nil && sum != want {
				err = fmt.Errorf("checksum_mismatch: the copy of %s is not what the snapshot holds", e.stored)
			}
			return err
		})
	}
	return group.Wait()
}

func (s *source) digestOf(ctx context.Context, stored string) (string, error) {
	if f, ok := s.files[stored]; ok && s.valid() {
		return f.SHA256, nil
	}
	return digest(ctx, s.at, stored, nil)
}

// buffers serve digest: a directory of 100,000 small files must not clear 1 MiB
// for each.
var buffers = sync.Pool{New: func() any {
	buf := make([]byte, 1<<20)
	return &buf
}}

// digest returns the SHA-256 of a file. read may be nil.
func digest(ctx context.Context, dir *tree.Dir, name string, read func(bytes int64)) (string, error) {
	f, err := dir.OpenFile(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digestFile(ctx, f, read)
}

func digestFile(ctx context.Context, f *os.File, read func(bytes int64)) (string, error) {
	hash := sha256.New()
	buf := *buffers.Get().(*[]byte)
	defer buffers.Put(&buf)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		if read != nil {
			read(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// layEntries records, once the store is not in use any more, what stands in each
// live directory and what comes, and so lays down the whole swap.
func (s *session) layEntries(ctx context.Context) error {
	for _, t := range s.Sets {
		if err := t.stillThere(s.Stamp); err != nil {
			return err
		}
		if t.Leaves {
			if err := t.layDirs(); err != nil {
				return err
			}
		}
		if err := s.layEntriesOf(ctx, t); err != nil {
			return err
		}
		if err := t.sync(); err != nil {
			return err
		}
	}
	return nil
}

// layEntriesOf fills in the entries of one set. A mounted file is copied aside
// here, because it will be overwritten.
func (s *session) layEntriesOf(ctx context.Context, t *swapSet) error {
	names, err := t.names()
	if err != nil {
		return err
	}
	t.Entries = make([]*swapEntry, 0, len(names))
	for _, name := range names {
		e := &swapEntry{Name: name}
		if e.Old, err = identify(t.live, name); err != nil {
			return err
		}
		if e.New, err = identify(t.fresh, name); err != nil {
			return err
		}
		t.Entries = append(t.Entries, e)
		if e.Old == nil || t.Leaves {
			continue
		}
		mounted, err := t.live.IsMount(name)
		switch {
		case err != nil:
			return err
		case mounted && (t.Whole || e.New == nil):
			return fmt.Errorf("%s is a mount point and cannot be exchanged", t.live.Name(name))
		case mounted:
			e.InPlace = true
			if err := copyAside(ctx, t, name, s.share); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyAside saves a file that cannot be moved, with what it has besides its
// bytes, so that the anchor is made of it.
func copyAside(ctx context.Context, t *swapSet, name string, share bool) error {
	if err := t.old.RemoveAll(name); err != nil { // of an attempt that was interrupted
		return err
	}
	if err := copyFile(ctx, t.old, name, t.live, name, share); err != nil {
		return err
	}
	attributes, err := t.live.Attributes(name)
	if err != nil {
		return err
	}
	if err := t.old.SetAttributes(name, attributes, hasChown()); err != nil {
		return err
	}
	f, err := t.old.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return fsx.Sync(f)
}

// names lists the names that are exchanged, every database after its sidecars:
// the old sidecars must be gone before the new database appears.
func (t *swapSet) names() ([]string, error) {
	seen := map[string]bool{}
	for _, dir := range []*tree.Dir{t.live, t.fresh} {
		var err error
		switch {
		case t.Leaves:
			err = walkLeaves(dir, func(n tree.Node) { seen[n.Path] = true })
		case dir == t.fresh || t.Whole:
			for info, listErr := range dir.Entries() {
				if err = listErr; err != nil {
					break
				}
				if !t.Whole || !isExcluded(info.Name) {
					seen[info.Name] = true
				}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if t.Artifact == snapshot.DB {
		for name := range seen {
			if _, sidecar := sidecarOf(name); !sidecar {
				for _, suffix := range sidecars {
					seen[name+suffix] = true
				}
			}
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		_, sidecarA := sidecarOf(a)
		_, sidecarB := sidecarOf(b)
		if sidecarA != sidecarB {
			if sidecarA {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names, nil
}
