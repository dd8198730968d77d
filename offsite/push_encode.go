package offsite

import (
	"bytes"
	"context"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// framePages is how many pages are compressed in one piece: 1 MiB. A frame of
// less than fewPages goes on with the next file: small ones share frames, and
// what is of one kind is not mixed with another.
const (
	framePages = chunkPages
	fewPages   = framePages / 4
)

// encoder turns chunks into pages of packs. Each has its own buffers and
// compressors; the packer is common to all.
type encoder struct {
	work    *pusher
	base    baseReader
	batches [layerCount]frameBatch
	best    *zstd.Encoder
	normal  *zstd.Encoder
	plain   *zstd.Encoder
	frame   []byte
	old     [chunkPages]record // of the chunk at hand, as last pushed
	now     [chunkPages]record // and as they will be
	patch   [PageSize]byte
}

// frameBatch gathers the pages of one frame, and their records, which lack only
// the place.
type frameBatch struct {
	data    []byte
	extents []extent
	records []record
}

func (w *pusher) newPageEncoder() (*encoder, error) {
	s := &encoder{work: w, base: baseReader{dir: w.base, hasher: w.hasher}}
	var err error
	if s.plain, err = newCompressor(zstd.SpeedFastest, true); err != nil {
		return nil, err
	}
	if s.normal, err = newCompressor(zstd.SpeedDefault, false); err != nil {
		return nil, err
	}
	s.best, err = newCompressor(zstd.SpeedBetterCompression, false)
	return s, err
}

// newCompressor compresses frames, each on its own. age guards their bytes, so
// they carry no checksum.
func newCompressor(level zstd.EncoderLevel, plain bool) (*zstd.Encoder, error) {
	return zstd.NewWriter(
		nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithNoEntropyCompression(plain),
		zstd.WithWindowSize(framePages*PageSize), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false),
	)
}

// level is how much work a base page is worth. "fastest" leaves the entropy coding
// out and stores a tenth more than "default"; "better" saves 2 % of a database and
// takes four times as long. Patches are few and always get the default.
type level int

const (
	fastest level = iota
	normal
	better
)

func parseLevel(name string) (level, error) {
	switch name {
	case "fastest":
		return fastest, nil
	case "", "default":
		return normal, nil
	case "better":
		return better, nil
	}
	return 0, fmt.Errorf("encryption.compression: %q is not fastest, default or better", name)
}

// run takes chunks until there are no more.
func (s *encoder) run(ctx context.Context, chunks <-chan chunk, free chan<- []byte) error {
	for c := range chunks {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.encodeChunk(c); err != nil {
			return err
		}
		free <- c.data[:cap(c.data)]
	}
	if ctx.Err() != nil { // the reader may have stopped half-way
		return ctx.Err()
	}
	for layer := range s.batches {
		if err := s.flush(layer); err != nil {
			return err
		}
	}
	return nil
}

var zeroPage [PageSize]byte

// encodeChunk decides for each page of a chunk what becomes of it. Records of pages
// that are not sent are written at once, those of the others with their frame.
func (s *encoder) encodeChunk(c chunk) error {
	n := len(c.data) / PageSize
	if n == 0 {
		return nil
	}
	now, old := s.now[:n], s.old[:n]
	first := c.file.first + c.page
	if err := s.work.records.read(first, now); err != nil {
		return err
	}
	known, err := s.readOld(c, old)
	if err != nil {
		return err
	}
	begin := 0 // of the pages whose records are not written yet
	for i := range n {
		page := c.data[i*PageSize : (i+1)*PageSize]
		layer, data := s.classifyPage(c.file, c.page+int64(i), page, &now[i], old[i], i < known)
		if data == nil {
			continue
		}
		if err := s.work.records.write(first+int64(begin), now[begin:i]); err != nil {
			return err
		}
		begin = i + 1
		if err := s.send(layer, c.file, c.page+int64(i), data, now[i]); err != nil {
			return err
		}
	}
	return s.work.records.write(first+int64(begin), now[begin:])
}

// readOld reads the records of the last version and returns how many there are.
func (s *encoder) readOld(c chunk, old []record) (known int, err error) {
	if c.file.last == nil {
		return 0, nil
	}
	known = int(max(0, min(int64(len(old)), pages(c.file.last.Size)-c.page)))
	clear(old[known:]) // the file had ended: zeros, as far as patches go
	return known, recordFile{s.work.last.file}.read(c.file.last.First+c.page, old[:known])
}

// classifyPage fills in the record of a page. When the page must be sent it returns the
// layer and the bytes, which are valid until the next call. now holds the place
// that an earlier attempt gave the page, if one did.
func (s *encoder) classifyPage(
	f *pushFile, number int64, page []byte, now *record, old record, known bool,
) (layer int, data []byte) {
	if bytes.Equal(page, zeroPage[:]) {
		*now = record{}
		return 0, nil
	}
	content := s.work.hasher.digest(page)
	switch {
	case !now.baseAt.nowhere():
		*now = record{content: content, base: content, baseAt: now.baseAt}
		return 0, nil
	case !now.patchAt.nowhere():
		*now = record{content: content, base: old.base, baseAt: old.baseAt, patchAt: now.patchAt}
		return 0, nil
	case f.last == nil:
		*now = record{content: content, base: content}
		f.baseSent.Store(true)
		return baseLayer, page
	}
	bad := s.work.bad
	stale := bad[old.patchAt.pack] || (s.work.mode == consolidate && !old.patchAt.nowhere())
	if known && old.content == content && !bad[old.baseAt.pack] && !stale {
		*now = old
		return 0, nil
	}
	return s.diffPage(f, number, page, content, now, old)
}

// diffPage makes the patch of a page against its base page. Without one that can
// be trusted on both sides the page becomes a base page itself.
func (s *encoder) diffPage(
	f *pushFile, number int64, page []byte, content pageDigest, now *record, old record,
) (layer int, data []byte) {
	if old.baseAt.nowhere() { // the base is zeros, as of pages beyond its end
		*now = record{content: content}
		return patchLayer, page
	}
	var base []byte
	if !s.work.bad[old.baseAt.pack] {
		*now = record{content: content, base: old.base, baseAt: old.baseAt}
		if content == old.base { // it is as it was once
			return 0, nil
		}
		var rotten bool
		if base, rotten = s.base.read(f.last, number, old.base); rotten {
			f.baseRotten.Store(true)
		}
	}
	if base == nil {
		*now = record{content: content, base: content}
		f.baseSent.Store(true)
		return baseLayer, page
	}
	copy(s.patch[:], page)
	xorBytes(s.patch[:], base)
	return patchLayer, s.patch[:]
}

// send puts a page into the layer's frame.
func (s *encoder) send(layer int, f *pushFile, page int64, data []byte, r record) error {
	b := &s.batches[layer]
	if n := len(b.extents); n > 0 && b.extents[n-1].file != f.index && len(b.records) >= fewPages {
		if err := s.flush(layer); err != nil {
			return err
		}
	}
	b.data = append(b.data, data...)
	b.extents = appendExtent(b.extents, extent{file: f.index, page: page, pages: 1})
	b.records = append(b.records, r)
	if len(b.records) < framePages {
		return nil
	}
	return s.flush(layer)
}

// flush compresses a frame, adds it to the open pack and writes the records.
func (s *encoder) flush(layer int) error {
	b := &s.batches[layer]
	if len(b.records) == 0 {
		return nil
	}
	s.frame = s.compressor(layer, b.data).EncodeAll(b.data, s.frame[:0])
	pack, first, err := s.work.packer.add(layer, s.frame, b.extents)
	if err != nil {
		return err
	}
	for i := range b.records {
		at := location{pack, uint32(first) + uint32(i)}
		if layer == baseLayer {
			b.records[i].baseAt = at
		} else {
			b.records[i].patchAt = at
		}
	}
	records := b.records
	for _, e := range b.extents {
		if err := s.work.records.write(s.work.files[e.file].first+e.page, records[:e.pages]); err != nil {
			return err
		}
		records = records[e.pages:]
	}
	b.data, b.extents, b.records = b.data[:0], b.extents[:0], b.records[:0]
	return nil
}

// Where a sample does not shrink to this part, more work would hardly help:
// vectors shrink to 0.98 without entropy coding, to 0.89 with the default, and no
// further.
const barely = 0.85

// compressor chooses how hard to try on a frame.
func (s *encoder) compressor(layer int, data []byte) *zstd.Encoder {
	switch {
	case layer == baseLayer && s.work.level == fastest:
		return s.plain
	case layer == baseLayer && s.work.level == better && s.shrinks(data):
		return s.best
	}
	return s.normal
}

// shrinks reports whether a sample of the frame shrinks well.
func (s *encoder) shrinks(data []byte) bool {
	const sample, samples = 8 << 10, 4
	if len(data) < sample*samples*4 {
		return true
	}
	total := 0
	for i := range samples {
		from := len(data) / samples * i
		s.frame = s.plain.EncodeAll(data[from:from+sample], s.frame[:0])
		total += len(s.frame)
	}
	return float64(total) <= barely*sample*samples
}
