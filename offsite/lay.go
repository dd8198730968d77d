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

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
)

// pullWorkers is how many packs are fetched at once.
const pullWorkers = 3

// filler builds one snapshot directory from packs.
type filler struct {
	vault      *Vault
	manifest   *Manifest
	sums       sums
	root       *os.Root
	identities crypt.Identities
	patches    patchFile
	digests    []fileDigest
	progress   progress
}

// fill builds the snapshot directory: the patch layer goes to a file aside, the
// base layer, XORed with it, to its place. What the base layer lays is final,
// and is digested at once. Each pack is streamed once for each layer that uses
// it, and the two use different ones.
func (v *Vault) fill(ctx context.Context, m *Manifest, sums sums, dir string, o PullOptions) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := newFiller(m, root)
	if err != nil {
		return err
	}
	defer f.patches.Close()
	if err := makeEntries(root, m); err != nil {
		return err
	}
	f.vault, f.sums, f.identities, f.progress.tell = v, sums, o.Identities, o.Progress
	if err := f.lay(ctx, placements(m, func(f *FileEntry) []Run { return f.Patch }), (*packLayer).layPatch); err != nil {
		return err
	}
	if err := f.fillHoles(ctx); err != nil {
		return err
	}
	if err := f.lay(ctx, placements(m, func(f *FileEntry) []Run { return f.Base }), (*packLayer).layBase); err != nil {
		return err
	}
	for i := range m.Files {
		if !f.digests[i].is(&m.Files[i]) {
			return f.blame(ctx, &m.Files[i])
		}
	}
	return finishEntries(root, m)
}

func newFiller(m *Manifest, root *os.Root) (*filler, error) {
	patches, err := newPatchFile(m, root)
	if err != nil {
		return nil, err
	}
	return &filler{manifest: m, root: root, progress: progress{total: m.stored()}, patches: patches, digests: make([]fileDigest, len(m.Files))}, nil
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
			w, err := f.newLayer(ctx, put)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.close()) }()
			for index := range packs {
				if err := w.layPack(packName(f.manifest.Packs[index]), l[index]); err != nil {
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
	ctx   context.Context
	put   putPages
	dec   *zstd.Decoder
	data  []byte // room for a piece,
	mixed []byte // for one with its patches,
	more  []byte // and for patches, or what is digested

	// The file that was written last stays open: neighbouring runs mostly
	// belong to one file, and a snapshot may have 100,000 of them.
	open int // -1: none is
	file *os.File
}

func (f *filler) newLayer(ctx context.Context, put putPages) (*packLayer, error) {
	dec, err := newDecoder(nil)
	if err != nil {
		return nil, err
	}
	piece := func() []byte { return make([]byte, chunkPages*PageSize) }
	return &packLayer{filler: f, ctx: ctx, put: put, dec: dec, data: piece(), mixed: piece(), more: piece(), open: -1}, nil
}

func (w *packLayer) close() error {
	w.dec.Close()
	return w.closeFile()
}

// layPack lays a pack without digesting it: every file is digested in the end,
// and that says the same. Only what is to blame is looked for in the packs.
func (w *packLayer) layPack(name string, runs []placement) error {
	r, err := w.vault.open(w.ctx, name)
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
		return cmp.Or(w.vault.checkObject(w.ctx, name, w.sums), err)
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
			if err := w.place(run, page, data); err != nil {
				return err
			}
		}
		w.progress.add(int64(len(data)))
	}
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
func (w *packLayer) place(run placement, page int64, data []byte) error {
	from := max(run.packPage, page)
	to := min(run.packPage+run.pages, page+int64(len(data)/PageSize))
	if from >= to {
		return nil
	}
	return w.put(w, run.file, run.filePage+from-run.packPage, data[(from-page)*PageSize:(to-page)*PageSize])
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
type putPages func(w *packLayer, file int, page int64, data []byte) error

// layPatch puts pages of the patch layer aside.
func (w *packLayer) layPatch(file int, page int64, data []byte) error {
	return w.patches.put(file, page, data)
}

// layBase XORs pages of the base layer with the patches that belong there, and
// digests what is complete.
func (w *packLayer) layBase(file int, page int64, data []byte) error {
	f, size, err := w.at(file)
	if err != nil {
		return err
	}
	mixed := data
	for r := range w.patches.within(file, page, page+int64(len(data)/PageSize)) {
		if &mixed[0] == &data[0] {
			mixed = append(w.mixed[:0], data...)
		}
		patch, err := w.patches.read(r, w.more)
		if err != nil {
			return err
		}
		xorBytes(mixed[(r.page-page)*PageSize:], patch)
	}
	if _, err := f.WriteAt(cut(mixed, page, size), page*PageSize); err != nil {
		return err
	}
	return w.laid(file, page, page+int64(len(data)/PageSize))
}

// cut gives what of pages from page on lies within a file's size.
func cut(data []byte, page, size int64) []byte {
	return data[:min(int64(len(data)), size-page*PageSize)]
}

// at gives a file, open, and its size.
func (w *packLayer) at(file int) (*os.File, int64, error) {
	e := &w.manifest.Files[file]
	if w.open != file {
		if err := w.closeFile(); err != nil {
			return nil, 0, err
		}
		f, err := w.root.OpenFile(filepath.FromSlash(e.Path), os.O_RDWR, 0)
		if err != nil {
			return nil, 0, err
		}
		w.file, w.open = f, file
	}
	return w.file, e.Size, nil
}

func (w *packLayer) closeFile() error {
	if w.open < 0 {
		return nil
	}
	w.open = -1
	return w.file.Close()
}
