package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// stage copies a part into its workspace, durably, with the owners and modes
// that it will have, proves the copy, and lays down what will be exchanged.
func (s *session) stage(ctx context.Context, p part, src *source) (*Target, error) {
	s.progress("copy "+p.artifact, 0)
	t := &Target{Artifact: p.artifact, Dir: p.dir, Work: filepath.Join(workDir(p.dir, s.Stamp), p.artifact), Whole: p.whole(), Slots: []*Slot{}}
	if err := s.openTarget(t, true); err != nil {
		return nil, err
	}
	for _, dir := range []string{t.newDir(), t.oldDir()} {
		// Inside the workspace nobody else can put anything.
		if err := fsx.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	entries, err := p.entries(src)
	if err != nil {
		return nil, err
	}
	if err := copyEntries(ctx, t.newDir(), entries, s.share, s.progress); err != nil {
		return nil, err
	}
	if t.Files, err = s.proveCopy(ctx, t.newDir(), entries, src); err != nil {
		return nil, err
	}
	if p.artifact == snapshot.DB && p.from != "" {
		if s.IntegrityOK, err = s.checkDB(ctx, t.staged(p.name), src.valid()); err != nil {
			return nil, err
		}
	}
	for _, e := range slices.Backward(entries) { // a directory after what is in it
		a, err := p.wanted(t.liveDir(), src, e.rel, e.stored)
		if err != nil {
			return nil, err
		}
		if err := a.apply(filepath.Join(t.newDir(), e.rel), s.keepOwner); err != nil {
			return nil, err
		}
	}
	if err := syncFileSystem(t.newDir()); err != nil {
		return nil, err
	}
	if err := s.makeSlots(ctx, p, t); err != nil {
		return nil, err
	}
	return t, syncTarget(t)
}

// copyEntries copies what a part brings into dir, which is empty, without
// making it durable. Attributes come later: a directory may not be writable.
func copyEntries(ctx context.Context, dir string, entries []entry, share bool, progress Progress) error {
	for _, e := range entries {
		dst := filepath.Join(dir, e.rel)
		var err error
		switch mode := e.info.Mode(); {
		case mode.IsDir():
			if err = fsx.Announce(fsx.OpMkdir, dst); err == nil {
				err = os.Mkdir(dst, 0o700)
			}
		case mode&fs.ModeSymlink != 0:
			var target string
			if target, err = os.Readlink(e.stored); err == nil {
				err = os.Symlink(target, dst)
			}
		default:
			err = copyFile(ctx, dst, e.stored, share)
			progress("copy", e.info.Size())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies one file without an fsync: a directory of 100,000 files is
// made durable by one syncFileSystem.
func copyFile(ctx context.Context, dst, src string, share bool) (err error) {
	in, err := os.OpenFile(src, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := fsx.Create(dst, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = fsx.CloneOrCopy(ctx, out, in, share)
	return err
}

// syncFileSystem makes everything on the file system of dir durable, names
// included. Linux reports here what a write-back since the last call failed at.
func syncFileSystem(dir string) error {
	if err := fsx.Announce(fsx.OpSync, dir); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// proveCopy compares every copied file with the manifest's digest, or with the
// stored file where there is none that can be believed, and gives the digests.
func (s *session) proveCopy(ctx context.Context, dir string, entries []entry, src *source) ([]FileSum, error) {
	s.progress("check the copies", 0)
	sums := make([]FileSum, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, e := range entries {
		if !e.info.Mode().IsRegular() {
			continue
		}
		group.Go(func() error {
			sum, err := digest(ctx, filepath.Join(dir, e.rel), s.report)
			if err != nil {
				return err
			}
			want, err := src.digestOf(ctx, e.stored)
			if err == nil && sum != want {
				err = fmt.Errorf("checksum_mismatch: the copy of %s is not what the snapshot holds", e.stored)
			}
			sums[i] = FileSum{Path: e.rel, SHA256: sum}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sums, func(f FileSum) bool { return f.Path == "" }), nil
}

func (s *source) digestOf(ctx context.Context, stored string) (string, error) {
	rel, err := filepath.Rel(s.dir, stored)
	if err != nil {
		return "", err
	}
	if f, ok := s.files[filepath.ToSlash(rel)]; ok && s.valid() {
		return f.SHA256, nil
	}
	return digest(ctx, stored, nil)
}

// buffers serve digest: a directory of 100,000 small files must not clear 1 MiB
// for each.
var buffers = sync.Pool{New: func() any {
	buf := make([]byte, 1<<20)
	return &buf
}}

// digest gives the SHA-256 of a file.
func digest(ctx context.Context, path string, progress Progress) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // a FIFO would block
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, &os.PathError{Op: "open", Path: path, Err: tree.ErrNotRegular})
	}
	hash := sha256.New()
	buf := *buffers.Get().(*[]byte)
	defer buffers.Put(&buf)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		if progress != nil {
			progress("checksums", int64(n))
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// checkDB checks a database that nobody has open. A bad one is an error, unless
// the snapshot was known to be invalid: then it is only said.
func (s *session) checkDB(ctx context.Context, path string, mustBeGood bool) (ok bool, err error) {
	s.progress("integrity check", 0)
	bad, _, err := sqlite.Check(ctx, path, sqlite.CheckOptions{})
	if err != nil {
		return false, err
	}
	var texts []string
	for _, f := range bad {
		texts = append(texts, f.Code+": "+f.Text)
	}
	if len(bad) > 0 && mustBeGood {
		return false, errors.New(clip(texts))
	}
	for _, text := range texts {
		s.warn("%s", text)
	}
	return len(bad) == 0, nil
}

// makeSlots records what stands in the live directory and what comes. A mounted
// file is copied aside here, because it will be overwritten.
func (s *session) makeSlots(ctx context.Context, p part, t *Target) error {
	names, err := slotNames(p, t)
	if err != nil {
		return err
	}
	for _, name := range names {
		slot := &Slot{Name: name}
		if slot.Old, err = identify(t.dest(name)); err != nil {
			return err
		}
		if slot.New, err = identify(t.staged(name)); err != nil {
			return err
		}
		if slot.Old != nil {
			mounted, err := t.live.IsMount(name)
			switch {
			case err != nil:
				return err
			case mounted && (t.Whole || slot.New == nil):
				return fmt.Errorf("%s is a mount point and cannot be exchanged", t.dest(name))
			case mounted:
				slot.InPlace = true
				if _, err := fsx.CopyFile(ctx, t.aside(name), t.dest(name), 0o600, s.share); err != nil {
					return err
				}
			}
		}
		t.Slots = append(t.Slots, slot)
	}
	return nil
}

// slotNames lists the names that are exchanged, every database after its
// sidecars: the old sidecars must be gone before the new database appears.
func slotNames(p part, t *Target) ([]string, error) {
	if !p.whole() {
		var names []string
		if p.artifact == snapshot.DB {
			for _, suffix := range sidecars {
				names = append(names, p.name+suffix)
			}
		}
		return append(names, p.name), nil
	}
	seen := map[string]bool{}
	for _, dir := range []string{t.liveDir(), t.newDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !leftAlone(e.Name()) {
				seen[e.Name()] = true
			}
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		_, sidecarA := mainOf(a)
		_, sidecarB := mainOf(b)
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

// syncTarget makes the names in all of a target's directories durable.
func syncTarget(t *Target) error {
	for _, dir := range []string{t.liveDir(), t.newDir(), t.oldDir()} {
		if err := fsx.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}
