package offsite

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// RebuildOptions says where a new machine keeps what it knows of a target.
type RebuildOptions struct {
	StateDir, BaseDir string // as in PushOptions
	Recipients        *crypt.Recipients
}

// Rebuild makes the map and the base files of a target from a snapshot that Pull
// has laid into dir: whoever holds the identity has every page in the clear, so the
// next push of a new machine is a day's and not a first one. A later call adds to
// what an earlier one has made: the newest full snapshot first, then the newest.
func (v *Vault) Rebuild(ctx context.Context, s Stored, dir string, o PullOptions, r RebuildOptions) (err error) {
	sums, m, err := v.openManifest(ctx, s, o)
	if err != nil {
		return err
	}
	packs, err := v.allPacks(ctx)
	if err != nil {
		return err
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	root, err := tree.Open(absolute, o.owners())
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := newRestorer(m, root)
	if err != nil {
		return err
	}
	defer f.patches.Close()
	f.vault, f.sums, f.identities = v, sums, o.Identities
	if err := f.readPacks(ctx, packReadsOf(m, patchRuns), (*packReader).putPatch); err != nil {
		return err
	}
	b := &rebuilder{restorer: f, stored: s, base: baseDir(r.BaseDir), numbers: make(map[string]uint32)}
	b.tail = mapTail{Format: mapFormat, VaultID: v.Info.ID, Push: s.Push}
	if slices.Equal(m.Recipients, r.Recipients.Strings()) {
		b.tail.Recipients = r.Recipients.Fingerprint()
	}
	for _, id := range m.Packs {
		b.number(packRef{ID: id, SHA256: sums[packName(id)], Size: packs[id].Size})
	}
	return b.write(ctx, filepath.Join(r.StateDir, mapName))
}

// rebuilder is one rebuild under way.
type rebuilder struct {
	*restorer
	stored  Stored
	base    baseDir
	hasher  *pageHasher
	tail    mapTail
	numbers map[string]uint32 // of packs, as locations have them, by id
}

func (b *rebuilder) number(p packRef) uint32 {
	n, ok := b.numbers[p.ID]
	if !ok {
		b.tail.Packs = append(b.tail.Packs, p)
		n = uint32(len(b.tail.Packs))
		b.numbers[p.ID] = n
	}
	return n
}

// write makes the new map beside the old one and takes it over.
func (b *rebuilder) write(ctx context.Context, path string) error {
	old, err := openMap(path)
	if err != nil && !errors.Is(err, errNoMap) {
		return err
	}
	defer old.Close()
	var key []byte
	if old != nil && old.VaultID == b.tail.VaultID {
		key = old.Key
	} else {
		old.Close()
		old = nil
	}
	if b.hasher, err = newPageHasher(key); err != nil {
		return err
	}
	b.tail.Key = b.hasher.key
	if err := fsx.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := createMap(path + ".new")
	if err != nil {
		return err
	}
	for i := range b.manifest.Files {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, out.file.Close())
		}
		if e := &b.manifest.Files[i]; e.Type == snapshot.TypeFile {
			if err := b.addFile(ctx, out, i, e); err != nil {
				return errors.Join(err, out.file.Close())
			}
		}
	}
	if old != nil && !b.stored.Full {
		if err := b.addOld(out, old); err != nil {
			return errors.Join(err, out.file.Close())
		}
	}
	if err := out.finish(b.tail); err != nil {
		return err
	}
	if err := fsx.Rename(path+".new", path); err != nil {
		return err
	}
	return fsx.SyncDir(filepath.Join(string(b.base), string(b.stored.Push)))
}

// addOld takes over the entries of paths that this snapshot does not have.
func (b *rebuilder) addOld(out *mapWriter, old *pageMap) error {
	here := make(map[string]bool)
	for i := range b.manifest.Files {
		here[b.manifest.Files[i].Path] = true
	}
	numbers := []uint32{0}
	for _, p := range old.Packs {
		numbers = append(numbers, b.number(p))
	}
	for _, entry := range old.Files {
		if here[entry.Path] {
			continue
		}
		first := out.n
		err := recordFile{old.file}.each(entry.First, pages(entry.Size), func(_ int64, r record) error {
			if int(max(r.baseAt.pack, r.patchAt.pack)) >= len(numbers) {
				return errMapDamaged
			}
			r.baseAt.pack, r.patchAt.pack = numbers[r.baseAt.pack], numbers[r.patchAt.pack]
			return out.add(r)
		})
		if err != nil {
			return err
		}
		entry.First = first
		b.tail.Files = append(b.tail.Files, entry)
	}
	return nil
}

// addFile makes the base file of a file and writes the records of its pages.
func (b *rebuilder) addFile(ctx context.Context, out *mapWriter, index int, e *FileEntry) (err error) {
	source := b.root.Name(e.Path) // in snapshots/, which is private
	if err := b.makeBase(ctx, index, e, source); err != nil {
		return err
	}
	content, err := b.root.OpenFile(e.Path)
	if err != nil {
		return err
	}
	defer content.Close()
	base, err := b.base.open(b.stored.Push, e.Path)
	if err != nil {
		return err
	}
	defer base.Close()
	b.tail.Files = append(
		b.tail.Files,
		mappedFile{Path: e.Path, Size: e.Size, SHA256: e.SHA256, Stamp: b.stored.Stamp, First: out.n,
			Link: b.stored.Push, Based: b.stored.Push},
	)
	baseRuns, patchRuns := byPage(e.Base), byPage(e.Patch)
	var page, basePage [PageSize]byte
	for number := range pages(e.Size) {
		if err := errors.Join(readPage(content, number, page[:]), readPage(base, number, basePage[:])); err != nil {
			return err
		}
		baseAt, patchAt := b.locate(&baseRuns, number), b.locate(&patchRuns, number)
		var r record
		if page != zeroPage {
			r = record{content: b.hasher.digest(page[:]), baseAt: baseAt, patchAt: patchAt}
			if !baseAt.nowhere() {
				r.base = b.hasher.digest(basePage[:])
			}
		}
		if err := out.add(r); err != nil {
			return err
		}
	}
	return nil
}

// locate returns where a page lies, and passes over the runs that end before it.
func (b *rebuilder) locate(runs *[]Run, page int64) location {
	for len(*runs) > 0 && (*runs)[0].FilePage+(*runs)[0].Pages <= page {
		*runs = (*runs)[1:]
	}
	if len(*runs) == 0 || (*runs)[0].FilePage > page {
		return location{}
	}
	r := (*runs)[0]
	at := location{b.numbers[b.manifest.Packs[r.Pack]], uint32(r.PackPage + page - r.FilePage)}
	ref := &b.tail.Packs[at.pack-1]
	ref.Pages = max(ref.Pages, int64(at.page)+1) // as far as it is known
	return at
}

// makeBase keeps the base file of a file: the file itself where nothing patches
// it, else a copy whose patched pages are XORed back.
func (b *rebuilder) makeBase(ctx context.Context, index int, e *FileEntry, source string) (err error) {
	if len(e.Patch) == 0 {
		return b.base.keep(ctx, b.stored.Push, source, e.Path)
	}
	f, err := b.base.copy(ctx, b.stored.Push, source, e.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := b.unpatch(f, index, e); err != nil {
		return err
	}
	// A base file that a power cut takes costs a new base; one whose pages it takes
	// looks rotten.
	return fsx.Sync(f)
}

// unpatch XORs the patched pages of a copy of a file back.
func (b *rebuilder) unpatch(f *os.File, index int, e *FileEntry) error {
	if err := fsx.Announce(fsx.OpWrite, f.Name()); err != nil {
		return err
	}
	buf := make([]byte, chunkPages*PageSize)
	var page [PageSize]byte
	for r := range b.patches.within(index, 0, pages(e.Size)) {
		for n := int64(0); n < r.pages; n += chunkPages {
			patch, err := b.patches.read(patchRun{r.page + n, min(chunkPages, r.pages-n), r.at + n}, buf)
			if err != nil {
				return err
			}
			for i := range int64(len(patch) / PageSize) {
				at := r.page + n + i
				if err := readPage(f, at, page[:]); err != nil {
					return err
				}
				xorBytes(page[:], patch[i*PageSize:(i+1)*PageSize])
				// Past the end of the file its base may have bytes: all of the page.
				if _, err := f.WriteAt(page[:], at*PageSize); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// readPage reads a page of a file; what lies past its end is zeros.
func readPage(f *os.File, number int64, page []byte) error {
	n, err := f.ReadAt(page, number*PageSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(page[n:])
	return nil
}
