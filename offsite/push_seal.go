package offsite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// seal makes what is left to be published and the map that will hold then, and
// spools all of it.
func (w *pusher) seal(ctx context.Context) (*sealed, error) {
	done := &sealed{journalHeader: w.spool.journalHeader, Seq: w.o.Seq, Warnings: w.warnings, Damage: w.damage}
	if w.last != nil {
		done.Follows = w.last.Push
	}
	numbers, packs, err := w.packsOf()
	if err != nil {
		return nil, err
	}
	done.Packs = packs
	size, manifestSum, err := w.writeManifest(numbers, packs)
	if err != nil {
		return nil, err
	}
	if err := w.writeSums(manifestSum, packs); err != nil {
		return nil, err
	}
	if err := w.keepBases(ctx); err != nil {
		return nil, err
	}
	if err := w.writeMap(); err != nil {
		return nil, err
	}
	done.Pushed = Pushed{Stamp: w.src.Info.Stamp, Packs: len(w.packer.sent) + len(w.spool.arrived), Bytes: size}
	for _, list := range [][]storedPack{w.packer.sent, w.spool.arrived} {
		for _, p := range list {
			done.Pushed.Bytes += p.Size
		}
	}
	for _, f := range w.files {
		done.Pushed.Base = done.Pushed.Base || f != nil && f.baseSent.Load()
	}
	return done, w.spool.seal(*done)
}

// packsOf returns the packs that this snapshot needs, and the index that each
// number has among them.
func (w *pusher) packsOf() (numbers map[uint32]int64, packs []packRef, err error) {
	used := make(map[uint32]bool)
	for _, f := range w.files {
		if f == nil {
			continue
		}
		err := w.records.each(f.first, f.pages, func(_ int64, r record) error {
			used[r.baseAt.pack], used[r.patchAt.pack] = true, true
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	numbers = make(map[uint32]int64)
	for i, p := range w.packer.packs {
		if number := uint32(i + 1); used[number] {
			numbers[number] = int64(len(packs))
			packs = append(packs, p)
		}
	}
	return numbers, packs, nil
}

// writeManifest writes the manifest file by file: its runs are never in memory
// all at once.
func (w *pusher) writeManifest(numbers map[uint32]int64, packs []packRef) (size int64, digest string, err error) {
	path := w.spool.path(spoolManifest)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, "", err
	}
	f, err := fsx.Create(path, 0o600)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	sealed, err := w.o.Recipients.Seal(io.MultiWriter(f, hash))
	if err != nil {
		return 0, "", err
	}
	enc, err := zstd.NewWriter(
		sealed, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true),
	)
	if err != nil {
		return 0, "", err
	}
	err = w.encodeManifest(enc, numbers, packs)
	if err = errors.Join(err, enc.Close()); err != nil {
		return 0, "", err
	}
	if err := errors.Join(sealed.Close(), fsx.Sync(f)); err != nil {
		return 0, "", err
	}
	info, err := f.Stat()
	return info.Size(), hex.EncodeToString(hash.Sum(nil)), err
}

func (w *pusher) encodeManifest(out io.Writer, numbers map[uint32]int64, packs []packRef) error {
	m := Manifest{
		Format: FormatVersion, Stamp: w.src.Info.Stamp, Created: time.Now().UTC(), Host: w.src.Host,
		PageSize: PageSize, Packs: []string{}, Recipients: w.o.Recipients.Strings(), Files: []FileEntry{},
	}
	for _, p := range packs {
		m.Packs = append(m.Packs, p.ID)
	}
	for name, to := range map[string]*string{snapshot.MetadataFile: &m.Metadata, snapshot.ManifestFile: &m.Atobackupd} {
		data, err := os.ReadFile(filepath.Join(w.src.Dir, name))
		if err != nil && !(name == snapshot.ManifestFile && errors.Is(err, os.ErrNotExist)) {
			return sourceError(err)
		}
		*to = string(data)
	}
	head, err := json.Marshal(m)
	if err != nil {
		return err
	}
	// "files":[] is last: it is filled in piece by piece.
	if _, err := out.Write(head[:len(head)-len("]}")]); err != nil {
		return err
	}
	for i, entry := range w.entries {
		if entry.Base, entry.Patch, err = w.runs(w.files[i], numbers); err != nil {
			return err
		}
		data, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		if i > 0 {
			data = append([]byte{','}, data...)
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	_, err = out.Write([]byte("]}"))
	return err
}

// runs returns where the pages of a file lie.
func (w *pusher) runs(f *pushFile, numbers map[uint32]int64) (base, patch []Run, err error) {
	if f == nil {
		return nil, nil, nil
	}
	err = w.records.each(f.first, f.pages, func(page int64, r record) error {
		if !r.baseAt.nowhere() {
			base = appendRun(base, Run{page, 1, numbers[r.baseAt.pack], int64(r.baseAt.page)})
		}
		if !r.patchAt.nowhere() {
			patch = appendRun(patch, Run{page, 1, numbers[r.patchAt.pack], int64(r.patchAt.page)})
		}
		return nil
	})
	return base, patch, err
}

// appendRun adds a run, joined to the last one where it continues it.
func appendRun(runs []Run, r Run) []Run {
	if n := len(runs); n > 0 {
		last := &runs[n-1]
		if last.Pack == r.Pack && last.FilePage+last.Pages == r.FilePage && last.PackPage+last.Pages == r.PackPage {
			last.Pages += r.Pages
			return runs
		}
	}
	return append(runs, r)
}

// writeSums spools the json, the SHA256SUMS and its signature.
func (w *pusher) writeSums(manifestSum string, packs []packRef) error {
	push := w.spool.Push
	info := w.src.Info
	info.Seq = w.o.Seq
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	infoSum := sha256.Sum256(data)
	lines := []sum{
		{manifestSum, push.object(manifestSuffix)}, {hex.EncodeToString(infoSum[:]), push.object(infoSuffix)},
	}
	for _, p := range packs {
		lines = append(lines, sum{p.SHA256, packName(p.ID)})
	}
	sumsData := formatSums(lines)
	signature, err := w.o.Signer.Sign(sumsData)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{spoolInfo: data, spoolSums: sumsData, spoolSig: signature} {
		if err := fsx.WriteFile(w.spool.path(name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// isNewest reports whether the map gets this version of a file: not when it knows a
// later one.
func (w *pusher) isNewest(f *pushFile) bool {
	if f == nil || w.last == nil {
		return f != nil
	}
	old := w.last.byPath[f.Path]
	return old == nil || old.Stamp <= w.src.Info.Stamp
}

// keepBases links the files that are bases from now on.
func (w *pusher) keepBases(ctx context.Context) error {
	kept := false
	for _, f := range w.files {
		if f == nil || !f.newBase || !w.isNewest(f) {
			continue
		}
		if err := w.base.keep(
			ctx, w.spool.Push, filepath.Join(w.src.Dir, filepath.FromSlash(f.Path)), f.Path,
		); err != nil {
			return err
		}
		kept = true
	}
	if !kept {
		return nil
	}
	// What a power cut takes of it is missed when it is needed, and costs a new
	// base; so one flush of the names will do.
	return fsx.SyncDir(filepath.Join(string(w.base), string(w.spool.Push)))
}

// mapSource is where the records of an entry of the new map come from.
type mapSource struct {
	file  recordFile
	first int64
	entry mappedFile
}

// mapSources returns the entries of the new map: this snapshot's files, and of
// the others those that it does not say anything about. A full snapshot says
// of the paths that it does not have that they are gone.
func (w *pusher) mapSources() (sources []mapSource) {
	taken := make(map[string]bool)
	for i := range w.entries {
		taken[w.entries[i].Path] = w.files[i] == nil
	}
	for _, f := range w.files {
		if !w.isNewest(f) {
			continue
		}
		taken[f.Path] = true
		entry := mappedFile{
			Path: f.Path, Size: f.Size, SHA256: f.SHA256, Stamp: w.src.Info.Stamp, Link: w.spool.Push,
			Based: w.spool.Push,
		}
		if !f.newBase {
			entry.Link = f.last.Link
			if !f.baseSent.Load() {
				entry.Based = f.last.Based
			}
		}
		sources = append(sources, mapSource{w.records, f.first, entry})
	}
	if w.last == nil {
		return sources
	}
	for _, entry := range w.last.Files {
		gone := w.src.Info.Full && entry.Stamp <= w.src.Info.Stamp
		if _, here := taken[entry.Path]; taken[entry.Path] || (!here && gone) {
			continue
		}
		sources = append(sources, mapSource{recordFile{w.last.file}, entry.First, entry})
	}
	return sources
}

// writeMap spools the map that holds once this push is published.
func (w *pusher) writeMap() error {
	sources := w.mapSources()
	used := make(map[uint32]bool)
	for _, s := range sources {
		err := s.file.each(s.first, pages(s.entry.Size), func(_ int64, r record) error {
			used[r.baseAt.pack], used[r.patchAt.pack] = true, true
			return nil
		})
		if err != nil {
			return err
		}
	}
	tail := mapTail{
		Format: mapFormat, VaultID: w.vault.Info.ID, Push: w.spool.Push,
		Recipients: w.o.Recipients.Fingerprint(), Key: w.hasher.key,
	}
	numbers := map[uint32]uint32{0: 0}
	for i, p := range w.packer.packs {
		if number := uint32(i + 1); used[number] {
			tail.Packs = append(tail.Packs, p)
			numbers[number] = uint32(len(tail.Packs))
		}
	}
	out, err := createMap(w.spool.path(mapName))
	if err != nil {
		return err
	}
	for _, s := range sources {
		s.entry.First = out.n
		err := s.file.each(s.first, pages(s.entry.Size), func(_ int64, r record) error {
			r.baseAt.pack, r.patchAt.pack = numbers[r.baseAt.pack], numbers[r.patchAt.pack]
			return out.add(r)
		})
		if err != nil {
			return errors.Join(err, out.file.Close())
		}
		tail.Files = append(tail.Files, s.entry)
	}
	return out.finish(tail)
}
