package offsite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// pullWorkers is how many packs are fetched at once.
const pullWorkers = 3

// restorer builds one snapshot directory from packs.
type restorer struct {
	vault      *Vault
	manifest   *Manifest
	sums       sums
	root       *tree.Dir
	identities crypt.Identities
	patches    patchFile
	digests    []fileDigest
	uncached   bool
	progress   progress
}

// restoreFiles builds the snapshot directory: the patch layer goes to a file aside, the
// base layer, XORed with it, to its place. What the base layer writes is final,
// and is digested at once. Each pack is streamed once for each layer that uses
// it, and the two use different ones.
func (v *Vault) restoreFiles(
	ctx context.Context, m *Manifest, sums sums, root *tree.Dir, above tree.Attributes, o PullOptions,
) error {
	f, err := newRestorer(m, root)
	if err != nil {
		return err
	}
	defer f.patches.Close()
	if err := makeEntries(root, m); err != nil {
		return err
	}
	f.vault, f.sums, f.identities, f.uncached = v, sums, o.Identities, o.Uncached
	f.progress.tell, f.progress.step = o.Progress, string(m.Stamp)
	if err := f.readPacks(ctx, packReadsOf(m, patchRuns), (*packReader).putPatch); err != nil {
		return err
	}
	if err := f.fillHoles(ctx); err != nil {
		return err
	}
	if err := f.readPacks(ctx, packReadsOf(m, baseRuns), (*packReader).putBase); err != nil {
		return err
	}
	for i := range m.Files {
		if !f.digests[i].matches(&m.Files[i]) {
			return f.findCorruptPack(ctx, &m.Files[i])
		}
	}
	return finishEntries(root, m, above)
}

func newRestorer(m *Manifest, root *tree.Dir) (*restorer, error) {
	patches, err := newPatchFile(m, root)
	if err != nil {
		return nil, err
	}
	return &restorer{
		manifest: m, root: root, progress: progress{total: m.stored()}, patches: patches,
		digests: make([]fileDigest, len(m.Files)),
	}, nil
}

// packReads holds, for each pack index, what is taken from it, in its order.
type packReads map[int64][]extent

func patchRuns(f *FileEntry) []Run { return f.Patch }
func baseRuns(f *FileEntry) []Run  { return f.Base }

func packReadsOf(m *Manifest, runs func(*FileEntry) []Run) packReads {
	reads := make(packReads)
	for i := range m.Files {
		for _, r := range runs(&m.Files[i]) {
			reads[r.Pack] = append(reads[r.Pack], extent{i, r.FilePage, r.Pages, r.PackPage})
		}
	}
	for _, list := range reads {
		slices.SortFunc(list, func(a, b extent) int { return cmp.Compare(a.packPage, b.packPage) })
	}
	return reads
}

// readPacks streams each pack of a layer once, in their order, and puts its pages
// into the files.
func (f *restorer) readPacks(ctx context.Context, reads packReads, put putPages) error {
	group, ctx := errgroup.WithContext(ctx)
	packs := make(chan int64)
	group.Go(func() error {
		defer close(packs)
		for _, index := range slices.Sorted(maps.Keys(reads)) {
			select {
			case packs <- index:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(pullWorkers, len(reads)) {
		group.Go(func() (err error) {
			w, err := f.newPackReader(ctx, put)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.close()) }()
			for index := range packs {
				if err := w.readPack(packName(f.manifest.Packs[index]), reads[index]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// packReader reads one pack after the other. It makes its buffers and
// its decoder once: they are several megabytes, and a vault has hundreds of packs.
type packReader struct {
	*restorer
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

func (f *restorer) newPackReader(ctx context.Context, put putPages) (*packReader, error) {
	dec, err := newDecoder(nil)
	if err != nil {
		return nil, err
	}
	piece := func() []byte { return make([]byte, chunkPages*PageSize) }
	return &packReader{
		restorer: f, ctx: ctx, put: put, dec: dec, data: piece(), mixed: piece(), more: piece(), open: -1,
	}, nil
}

func (w *packReader) close() error {
	w.dec.Close()
	return w.closeFile()
}

// readPack restores from a pack without digesting it: every file is digested in
// the end, and that proves the same. Only once a file is wrong are the packs
// digested, to find the corrupt one.
func (w *packReader) readPack(name string, runs []extent) error {
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
func (w *packReader) streamPack(r *object, runs []extent) error {
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

// findCorruptPack finds the pack because of which a file is not what it was.
func (f *restorer) findCorruptPack(ctx context.Context, e *FileEntry) error {
	packs := make(map[int64]bool)
	for _, r := range slices.Concat(e.Base, e.Patch) {
		packs[r.Pack] = true
	}
	for _, index := range slices.Sorted(maps.Keys(packs)) {
		if err := f.vault.checkObject(ctx, packName(f.manifest.Packs[index]), f.sums); err != nil {
			return err
		}
	}
	return &failure.Error{
		Op: "vault", Subject: e.Path, Kind: failure.Invalid,
		Err:  errors.New("checksum_mismatch: what the packs give is not what was snapshotted"),
		Hint: "try another snapshot",
	}
}

// place puts what a run takes of the pages that begin at page.
func (w *packReader) place(run extent, page int64, data []byte) error {
	from := max(run.packPage, page)
	to := min(run.packPage+run.pages, page+int64(len(data)/PageSize))
	if from >= to {
		return nil
	}
	return w.put(w, run.file, run.page+from-run.packPage, data[(from-page)*PageSize:(to-page)*PageSize])
}

// pageStream returns the pages of a pack that runs want, a piece at a time. Two
// runs may want the same page: files can have it in common.
type pageStream struct {
	runs   []extent // not begun yet, by packPage
	active []extent // that may want something of the current piece
	at     int64    // the next page
	data   []byte   // room for a piece
}

// next reads the next piece and returns its first page; io.EOF after the last.
func (s *pageStream) next(r io.Reader) (page int64, data []byte, err error) {
	s.active = slices.DeleteFunc(s.active, func(p extent) bool { return p.packPage+p.pages <= s.at })
	end := s.at
	if len(s.active) == 0 {
		if len(s.runs) == 0 {
			return 0, nil, io.EOF
		}
		skip := s.runs[0].packPage
		if _, err := io.CopyN(io.Discard, struct{ io.Reader }{r}, (skip-s.at)*PageSize); err != nil {
			return 0, nil, truncatedError(skip, err)
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
		return 0, nil, truncatedError(min(end, limit), err)
	}
	page = s.at
	s.at = min(end, limit)
	return page, data, nil
}

// truncatedError says that a pack ends too early. The error must not be io.EOF itself:
// that is the end of the runs.
func truncatedError(page int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends before page %d", page)
	}
	return fmt.Errorf("before page %d: %w", page, err)
}

// putPages puts whole pages at a page of a file; it leaves data as it is.
type putPages func(w *packReader, file int, page int64, data []byte) error

// putPatch puts pages of the patch layer aside.
func (w *packReader) putPatch(file int, page int64, data []byte) error {
	return w.patches.put(file, page, data)
}

// putBase XORs pages of the base layer with the patches that belong there, and
// digests what is complete.
func (w *packReader) putBase(file int, page int64, data []byte) error {
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
	if _, err := f.WriteAt(trimToSize(mixed, page, size), page*PageSize); err != nil {
		return err
	}
	return w.markWritten(file, page, page+int64(len(data)/PageSize))
}

// trimToSize returns what of pages from page on lies within a file's size.
func trimToSize(data []byte, page, size int64) []byte {
	return data[:min(int64(len(data)), size-page*PageSize)]
}

// at returns a file, open, and its size.
func (w *packReader) at(file int) (*os.File, int64, error) {
	e := &w.manifest.Files[file]
	if w.open != file {
		if err := w.closeFile(); err != nil {
			return nil, 0, err
		}
		f, err := w.root.OpenInPlace(e.Path)
		if err != nil {
			return nil, 0, err
		}
		w.file, w.open = f, file
	}
	return w.file, e.Size, nil
}

func (w *packReader) closeFile() error {
	if w.open < 0 {
		return nil
	}
	w.open = -1
	return w.file.Close()
}
