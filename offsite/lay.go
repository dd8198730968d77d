package offsite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// pullWorkers is how many packs are fetched, and files digested, at once.
const pullWorkers = 3

// filler builds one snapshot directory from packs.
type filler struct {
	vault      *Vault
	manifest   *Manifest
	sums       sums
	root       *os.Root
	identities crypt.Identities

	mu       sync.Mutex
	done     int64
	total    int64
	progress func(done, total int64)
}

// fill builds the snapshot directory: the base layer first, then the patch
// layer XORed over it. Each pack is streamed once for each layer that uses it,
// and the two use different ones.
func (v *Vault) fill(ctx context.Context, m *Manifest, sums sums, dir string, o PullOptions) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := makeEntries(root, m); err != nil {
		return err
	}
	f := &filler{vault: v, manifest: m, sums: sums, root: root, identities: o.Identities, total: m.stored(), progress: o.Progress}
	base := placements(m, func(f *FileEntry) []Run { return f.Base })
	if err := f.lay(ctx, base, writePages); err != nil {
		return err
	}
	patch := placements(m, func(f *FileEntry) []Run { return f.Patch })
	if err := f.lay(ctx, patch, xorPages); err != nil {
		return err
	}
	if err := f.checkDigests(ctx); err != nil {
		return err
	}
	return finishEntries(root, m)
}

func (f *filler) advance(n int64) {
	if f.progress == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done += n
	f.progress(f.done, f.total)
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

// lay streams each pack of a layer once, in their order, and puts its pages
// into the files.
func (f *filler) lay(ctx context.Context, l layer, put putPages) error {
	group, ctx := errgroup.WithContext(ctx)
	packs := make(chan int64)
	group.Go(func() error {
		defer close(packs)
		for _, index := range slices.Sorted(maps.Keys(l)) {
			select {
			case packs <- index:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(pullWorkers, len(l)) {
		group.Go(func() (err error) {
			w, err := f.newLayer(put)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.close()) }()
			for index := range packs {
				if err := w.layPack(ctx, packName(f.manifest.Packs[index]), l[index]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// packLayer lays one pack after the other. What it needs for that it makes
// once: it is several megabytes, and a vault has hundreds of packs.
type packLayer struct {
	*filler
	put  putPages
	out  fileWriter
	dec  *zstd.Decoder
	data []byte // room for a piece
}

func (f *filler) newLayer(put putPages) (*packLayer, error) {
	dec, err := newDecoder(nil)
	if err != nil {
		return nil, err
	}
	return &packLayer{f, put, fileWriter{root: f.root, files: f.manifest.Files, open: -1}, dec, make([]byte, chunkPages*PageSize)}, nil
}

func (w *packLayer) close() error {
	w.dec.Close()
	return w.out.close()
}

// layPack lays a pack without digesting it: every file is digested in the end,
// and that says the same. Only what is to blame is looked for in the packs.
func (w *packLayer) layPack(ctx context.Context, name string, runs []placement) error {
	r, err := w.vault.open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	err = w.streamPack(r, runs)
	if r.err != nil {
		return r.err
	}
	var invalid *failure.Error
	if errors.As(err, &invalid) && invalid.Kind == failure.Invalid {
		return cmp.Or(w.vault.checkObject(ctx, name, w.sums), err)
	}
	return err
}

// streamPack decrypts and decompresses a pack as far as its runs go.
func (w *packLayer) streamPack(r *object, runs []placement) error {
	bad := func(err error) error {
		return &failure.Error{Op: "vault", Subject: r.name, Kind: failure.Invalid, Err: err}
	}
	plain, err := w.identities.Open(r)
	if err != nil {
		return bad(err)
	}
	if err := w.dec.Reset(plain); err != nil {
		return bad(err)
	}
	s := pageStream{runs: runs, data: w.data}
	for {
		page, data, err := s.next(w.dec)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bad(err)
		}
		for _, run := range s.active {
			if err := place(&w.out, w.put, run, page, data); err != nil {
				return err
			}
		}
		w.advance(int64(len(data)))
	}
}

// checkDigests compares every file with the manifest, the largest first.
func (f *filler) checkDigests(ctx context.Context) error {
	var files []*FileEntry
	for i := range f.manifest.Files {
		if f.manifest.Files[i].Type == snapshot.TypeFile {
			files = append(files, &f.manifest.Files[i])
		}
	}
	slices.SortStableFunc(files, func(a, b *FileEntry) int { return cmp.Compare(b.Size, a.Size) })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pullWorkers)
	for _, e := range files {
		group.Go(func() error {
			digest, err := digestFile(ctx, f.root, e.Path)
			if err != nil {
				return err
			}
			if digest != e.SHA256 {
				return f.blame(ctx, e)
			}
			return nil
		})
	}
	return group.Wait()
}

// blame finds the pack because of which a file is not what it was.
func (f *filler) blame(ctx context.Context, e *FileEntry) error {
	packs := make(map[int64]bool)
	for _, r := range slices.Concat(e.Base, e.Patch) {
		packs[r.Pack] = true
	}
	for _, index := range slices.Sorted(maps.Keys(packs)) {
		if err := f.vault.checkObject(ctx, packName(f.manifest.Packs[index]), f.sums); err != nil {
			return err
		}
	}
	return &failure.Error{Op: "vault", Subject: e.Path, Kind: failure.Invalid, Err: errors.New("checksum_mismatch: what the packs give is not what was snapshotted"), Hint: "try another snapshot"}
}

// place puts what a run takes of the pages that begin at page.
func place(out *fileWriter, put putPages, run placement, page int64, data []byte) error {
	from := max(run.packPage, page)
	to := min(run.packPage+run.pages, page+int64(len(data)/PageSize))
	if from >= to {
		return nil
	}
	return put(out, run.file, run.filePage+from-run.packPage, data[(from-page)*PageSize:(to-page)*PageSize])
}

// pageStream gives the pages of a pack that runs want, a piece at a time. Two
// runs may want the same page: files can have it in common.
type pageStream struct {
	runs   []placement // not begun yet, by packPage
	active []placement // that may want something of the current piece
	at     int64       // the next page
	data   []byte      // room for a piece
}

// next reads the next piece and gives its first page; io.EOF after the last.
func (s *pageStream) next(r io.Reader) (page int64, data []byte, err error) {
	s.active = slices.DeleteFunc(s.active, func(p placement) bool { return p.packPage+p.pages <= s.at })
	end := s.at
	if len(s.active) == 0 {
		if len(s.runs) == 0 {
			return 0, nil, io.EOF
		}
		skip := s.runs[0].packPage
		if _, err := io.CopyN(io.Discard, struct{ io.Reader }{r}, (skip-s.at)*PageSize); err != nil {
			return 0, nil, short(skip, err)
		}
		s.at = skip
		end = skip
	}
	for _, p := range s.active {
		end = max(end, p.packPage+p.pages)
	}
	limit := s.at + int64(len(s.data)/PageSize)
	for len(s.runs) > 0 && s.runs[0].packPage < limit && s.runs[0].packPage <= end {
		end = max(end, s.runs[0].packPage+s.runs[0].pages)
		s.active = append(s.active, s.runs[0])
		s.runs = s.runs[1:]
	}
	data = s.data[:(min(end, limit)-s.at)*PageSize]
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, short(min(end, limit), err)
	}
	page = s.at
	s.at = min(end, limit)
	return page, data, nil
}

// short says that a pack ends too early. The error must not be io.EOF itself:
// that is the end of the runs.
func short(page int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends before page %d", page)
	}
	return fmt.Errorf("before page %d: %w", page, err)
}

// putPages puts whole pages at a page of a file; it leaves data as it is.
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
	if out.old == nil {
		out.old = make([]byte, chunkPages*PageSize)
	}
	old := out.old[:len(data)]
	if _, err := f.ReadAt(old, page*PageSize); err != nil {
		return err
	}
	xorBytes(old, data)
	_, err = f.WriteAt(old, page*PageSize)
	return err
}

// fileWriter keeps the file that was written last open: neighbouring runs
// mostly belong to one file, and a snapshot may have 100,000 of them.
type fileWriter struct {
	root  *os.Root
	files []FileEntry
	open  int
	f     *os.File
	old   []byte
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
