package offsite

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// PullOptions says how a snapshot is fetched.
type PullOptions struct {
	Identities crypt.Identities
	Signer     string // the public key that must have signed it
	Progress   func(done, total int64)
}

// Pull fetches one snapshot into dest, which must not exist or be empty: a
// snapshot directory as it lay on the host. The signature is verified before
// anything else, every pack against its signed digest, every file against the
// manifest's. It is built beside dest and renamed, so dest is whole or absent.
// Owners are set where this process may; modes and times always.
func (v *Vault) Pull(ctx context.Context, s Stored, dest string, o PullOptions) (err error) {
	sums, err := v.verified(ctx, s, o.Signer)
	if err != nil {
		return err
	}
	m, err := v.manifest(ctx, s, sums, o.Identities)
	if err != nil {
		return err
	}
	if err := prepareDestination(dest, m); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".pull-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := v.fill(ctx, m, sums, dir, o); err != nil {
		return err
	}
	if err := fsx.SyncTree(dir); err != nil {
		return err
	}
	return fsx.Rename(dir, dest) // replaces an empty directory
}

func prepareDestination(dest string, m *Manifest) error {
	entries, err := os.ReadDir(dest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return &failure.Error{Op: "vault restore", Subject: dest, Kind: failure.Refused, Err: errors.New("it is not empty"), Hint: "name a directory that does not exist yet"}
	}
	if err := fsx.MkdirAll(filepath.Dir(dest), 0o700); err != nil {
		return err
	}
	var need int64
	for _, f := range m.Files {
		need += f.Size
	}
	return fsx.RequireFree(filepath.Dir(dest), need, 0)
}

// manifest fetches, decrypts and checks the manifest of a verified push.
func (v *Vault) manifest(ctx context.Context, s Stored, sums []sum, identities crypt.Identities) (*Manifest, error) {
	name := s.Push.object(manifestSuffix)
	bad := func(err error) error {
		return &failure.Error{Op: "vault", Subject: name, Kind: failure.Invalid, Err: err}
	}
	r, err := v.openSummed(ctx, name, sums)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	plain, err := identities.Open(r)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxManifest))
	if err != nil {
		return nil, bad(err)
	}
	defer dec.Close()
	data, err := io.ReadAll(io.LimitReader(dec, maxManifest+1))
	if err != nil {
		return nil, bad(err)
	}
	if len(data) > maxManifest {
		return nil, bad(fmt.Errorf("it decompresses past %d bytes", maxManifest))
	}
	if err := r.verify(); err != nil {
		return nil, err
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, bad(err)
	}
	if err := m.check(s.Stamp); err != nil {
		return nil, bad(err)
	}
	for _, id := range m.Packs {
		if !slices.ContainsFunc(sums, func(s sum) bool { return s.Name == packName(id) }) {
			return nil, bad(fmt.Errorf("pack %s is not among the signed checksums", id))
		}
	}
	return &m, nil
}

// summed is an object that is digested as it is read.
type summed struct {
	name string
	want string
	body io.ReadCloser
	tee  io.Reader
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
}

// openSummed opens an object that the checksums name; a pack that prune has
// moved to trash/ is found there.
func (v *Vault) openSummed(ctx context.Context, name string, sums []sum) (*summed, error) {
	i := slices.IndexFunc(sums, func(s sum) bool { return s.Name == name })
	if i < 0 {
		return nil, corrupt(name)
	}
	body, err := v.remote.Open(ctx, name)
	if id, isPack := packID(name); isPack && errors.Is(err, fs.ErrNotExist) {
		body, err = v.remote.Open(ctx, trashDir+"/"+id+packSuffix)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &failure.Error{Op: "vault", Subject: name, Kind: failure.Invalid, Err: errors.New("it is missing"), Hint: "the vault is damaged: try another snapshot"}
	}
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	return &summed{name: name, want: sums[i].SHA256, body: body, tee: io.TeeReader(body, hash), hash: hash}, nil
}

func (s *summed) Read(p []byte) (int, error) { return s.tee.Read(p) }

func (s *summed) Close() error { return s.body.Close() }

// verify reads the rest and compares the digest.
func (s *summed) verify() error {
	if _, err := io.Copy(io.Discard, s.tee); err != nil {
		return err
	}
	if hex.EncodeToString(s.hash.Sum(nil)) != s.want {
		return corrupt(s.name)
	}
	return nil
}

// fill builds the snapshot directory.
func (v *Vault) fill(ctx context.Context, m *Manifest, sums []sum, dir string, o PullOptions) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := makeEntries(root, m); err != nil {
		return err
	}
	base, patch := placements(m, func(f *FileEntry) []Run { return f.Base }), placements(m, func(f *FileEntry) []Run { return f.Patch })
	var total int64
	for _, layer := range []layer{base, patch} {
		for _, runs := range layer {
			for _, r := range runs {
				total += r.pages * PageSize
			}
		}
	}
	progress := newCounter(total, o.Progress)
	if err := v.lay(ctx, m, sums, root, base, writePages, o.Identities, progress); err != nil {
		return err
	}
	if err := v.lay(ctx, m, sums, root, patch, xorPages, o.Identities, progress); err != nil {
		return err
	}
	if err := checkDigests(ctx, root, m); err != nil {
		return err
	}
	return finishEntries(root, m)
}

type counter struct {
	mu    sync.Mutex
	done  int64
	total int64
	tell  func(done, total int64)
}

func newCounter(total int64, tell func(done, total int64)) *counter {
	return &counter{total: total, tell: tell}
}

func (c *counter) add(n int64) {
	if c.tell == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	c.tell(c.done, c.total)
}

// makeEntries creates every directory, file (at its final size, all zeros) and
// the two documents. Links are made last, so that nothing is written through one.
func makeEntries(root *os.Root, m *Manifest) error {
	for i := range m.Files {
		f := &m.Files[i]
		name := filepath.FromSlash(f.Path)
		parent := name
		if f.Type != snapshot.TypeDir {
			parent = filepath.Dir(name)
		}
		if err := root.MkdirAll(parent, 0o700); err != nil {
			return err
		}
		if f.Type != snapshot.TypeFile {
			continue
		}
		out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(out.Truncate(f.Size), out.Close()); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{snapshot.MetadataFile: m.Metadata, snapshot.ManifestFile: m.Atobackupd} {
		if text == "" {
			continue
		}
		if err := root.WriteFile(name, []byte(text), 0o640); err != nil {
			return err
		}
	}
	return nil
}

// placement says where a run of one pack goes.
type placement struct {
	packPage, pages int64
	file            int
	filePage        int64
}

// layer holds, for each pack index, what is taken from it, in its order.
type layer map[int64][]placement

func placements(m *Manifest, runs func(*FileEntry) []Run) layer {
	l := make(layer)
	for i := range m.Files {
		for _, r := range runs(&m.Files[i]) {
			l[r.Pack] = append(l[r.Pack], placement{r.PackPage, r.Pages, i, r.FilePage})
		}
	}
	for _, list := range l {
		slices.SortFunc(list, func(a, b placement) int { return cmp.Compare(a.packPage, b.packPage) })
	}
	return l
}

// pullWorkers is how many packs are fetched at once.
const pullWorkers = 3

// lay streams each pack of a layer once and puts its pages into the files.
func (v *Vault) lay(ctx context.Context, m *Manifest, sums []sum, root *os.Root, l layer, put putPages, identities crypt.Identities, progress *counter) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pullWorkers)
	for index, runs := range l {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return v.layPack(ctx, m, m.Packs[index], sums, root, runs, put, identities, progress)
		})
	}
	return group.Wait()
}

func (v *Vault) layPack(ctx context.Context, m *Manifest, id string, sums []sum, root *os.Root, runs []placement, put putPages, identities crypt.Identities, progress *counter) error {
	name := packName(id)
	r, err := v.openSummed(ctx, name, sums)
	if err != nil {
		return err
	}
	defer r.Close()
	bad := func(err error) error {
		// A pack that was changed does not decrypt; say what is wrong with it.
		if verifyErr := r.verify(); verifyErr != nil {
			return verifyErr
		}
		return &failure.Error{Op: "vault", Subject: name, Kind: failure.Invalid, Err: err}
	}
	plain, err := identities.Open(r)
	if err != nil {
		return bad(err)
	}
	dec, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return bad(err)
	}
	defer dec.Close()
	out := &fileWriter{root: root, files: m.Files, open: -1}
	defer out.close()
	at := int64(0)
	buf := make([]byte, chunkPages*PageSize)
	for _, run := range runs {
		if run.packPage < at {
			return bad(errors.New("two runs share its pages"))
		}
		if _, err := io.CopyN(io.Discard, dec, (run.packPage-at)*PageSize); err != nil {
			return bad(fmt.Errorf("it ends before page %d: %w", run.packPage, err))
		}
		for done := int64(0); done < run.pages; {
			n := min(chunkPages, run.pages-done)
			piece := buf[:n*PageSize]
			if _, err := io.ReadFull(dec, piece); err != nil {
				return bad(fmt.Errorf("it ends before page %d: %w", run.packPage+run.pages, err))
			}
			if err := put(out, run.file, run.filePage+done, piece); err != nil {
				return err
			}
			done += n
			progress.add(int64(len(piece)))
		}
		at = run.packPage + run.pages
	}
	return errors.Join(r.verify(), out.close())
}

// putPages puts whole pages at a page of a file.
type putPages func(out *fileWriter, file int, page int64, data []byte) error

func writePages(out *fileWriter, file int, page int64, data []byte) error {
	f, data, err := out.at(file, page, data)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, page*PageSize)
	return err
}

func xorPages(out *fileWriter, file int, page int64, data []byte) error {
	f, data, err := out.at(file, page, data)
	if err != nil {
		return err
	}
	old := make([]byte, len(data))
	if _, err := f.ReadAt(old, page*PageSize); err != nil {
		return err
	}
	for i := range data {
		data[i] ^= old[i]
	}
	_, err = f.WriteAt(data, page*PageSize)
	return err
}

// fileWriter keeps the file that was written last open: neighbouring runs
// mostly belong to one file, and a snapshot may have 100,000 of them.
type fileWriter struct {
	root  *os.Root
	files []FileEntry
	open  int
	f     *os.File
}

// at gives the file, and data cut to the file's size.
func (w *fileWriter) at(file int, page int64, data []byte) (*os.File, []byte, error) {
	if w.open != file {
		if err := w.close(); err != nil {
			return nil, nil, err
		}
		f, err := w.root.OpenFile(filepath.FromSlash(w.files[file].Path), os.O_RDWR, 0)
		if err != nil {
			return nil, nil, err
		}
		w.f, w.open = f, file
	}
	return w.f, data[:min(int64(len(data)), w.files[file].Size-page*PageSize)], nil
}

func (w *fileWriter) close() error {
	if w.open < 0 {
		return nil
	}
	w.open = -1
	return w.f.Close()
}

func checkDigests(ctx context.Context, root *os.Root, m *Manifest) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pullWorkers)
	for i := range m.Files {
		f := &m.Files[i]
		if f.Type != snapshot.TypeFile {
			continue
		}
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			in, err := root.Open(filepath.FromSlash(f.Path))
			if err != nil {
				return err
			}
			defer in.Close()
			hash := sha256.New()
			if _, err := io.Copy(hash, in); err != nil {
				return err
			}
			if hex.EncodeToString(hash.Sum(nil)) != f.SHA256 {
				return &failure.Error{Op: "vault", Subject: f.Path, Kind: failure.Invalid, Err: errors.New("checksum_mismatch: what the packs give is not what was snapshotted"), Hint: "try another snapshot"}
			}
			return nil
		})
	}
	return group.Wait()
}

// finishEntries makes the links and sets owners, modes and times: of files
// first, then of directories from the deepest up, whose times and permissions
// the work inside would change or forbid.
func finishEntries(root *os.Root, m *Manifest) error {
	order := slices.Clone(m.Files)
	slices.SortStableFunc(order, func(a, b FileEntry) int { return cmp.Compare(b.Path, a.Path) })
	isRoot := os.Geteuid() == 0
	for _, f := range order {
		name := filepath.FromSlash(f.Path)
		if f.Type == snapshot.TypeSymlink {
			if err := root.Symlink(f.Target, name); err != nil {
				return err
			}
			if isRoot {
				if err := root.Lchown(name, f.UID, f.GID); err != nil {
					return err
				}
			}
			continue
		}
		if isRoot {
			if err := root.Lchown(name, f.UID, f.GID); err != nil {
				return err
			}
		}
		if err := root.Chmod(name, fileMode(f.Mode)); err != nil {
			return err
		}
		if err := root.Chtimes(name, time.Time{}, f.MTime); err != nil {
			return err
		}
	}
	return nil
}

// fileMode turns chmod(2)'s bits into Go's.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}
