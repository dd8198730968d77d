package offsite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Source is a local snapshot that is to be shipped.
type Source struct {
	Dir   string // the snapshot directory
	Info  Info   // without Seq
	Files []snapshot.File
	Host  string
}

// PushOptions says how a snapshot is shipped.
type PushOptions struct {
	Recipients *crypt.Recipients
	Signer     *crypt.Signer
	Seq        int64  // of this push: above every earlier one
	Level      string // "fastest", "default" or "better"
	Progress   func(done, total int64)
}

// Pushed tells what a push sent.
type Pushed struct {
	Stamp      snapshot.Stamp `json:"stamp"`
	Packs      int            `json:"packs"`
	Bytes      int64          `json:"bytes"` // of packs and manifest, as stored
	Base       bool           `json:"base"`  // a base layer was sent
	DurationMS int64          `json:"duration_ms"`
	Push       PushID         `json:"-"`
	Seq        int64          `json:"-"`
}

// chunkPages is what goes to a pack in one piece: 256 KiB.
const chunkPages = 64

// Push brings one snapshot into the vault: packs, manifest, json, SHA256SUMS
// and, when every pack was seen once more on the remote with its size, the
// signature. Each is durable before the next, so the snapshot exists whole or
// not at all. Every file is digested as it is read and compared with its
// manifest: rot is not shipped.
func (v *Vault) Push(ctx context.Context, src Source, o PushOptions) (pushed Pushed, err error) {
	start := time.Now()
	suffix, err := randomHex(3)
	if err != nil {
		return pushed, err
	}
	push := PushID(string(src.Info.Stamp) + "-" + suffix)
	level, err := encoderLevel(o.Level)
	if err != nil {
		return pushed, err
	}
	p := &packer{remote: v.remote, recipients: o.Recipients, push: push, level: level}
	files, err := p.ship(ctx, src, o.Progress)
	if err != nil {
		return pushed, err
	}
	manifest, err := newManifest(src, files, p.packs)
	if err != nil {
		return pushed, err
	}
	info := src.Info
	info.Seq = o.Seq
	size, err := v.publish(ctx, push, manifest, info, p, o)
	if err != nil {
		return pushed, err
	}
	pushed = Pushed{Stamp: info.Stamp, Packs: len(p.packs), Bytes: size, Base: true, DurationMS: time.Since(start).Milliseconds(), Push: push, Seq: o.Seq}
	for _, pack := range p.packs {
		pushed.Bytes += pack.Size
	}
	return pushed, nil
}

func encoderLevel(name string) (zstd.EncoderLevel, error) {
	switch name {
	case "fastest":
		return zstd.SpeedFastest, nil
	case "", "default":
		return zstd.SpeedDefault, nil
	case "better":
		return zstd.SpeedBetterCompression, nil
	}
	return 0, fmt.Errorf("encryption.compression: %q is not fastest, default or better", name)
}

// publish writes what makes the packs a snapshot, the signature last. It gives
// the bytes of the manifest.
func (v *Vault) publish(ctx context.Context, push PushID, manifest *Manifest, info Info, p *packer, o PushOptions) (int64, error) {
	size, manifestSum, err := v.putManifest(ctx, push, manifest, p)
	if err != nil {
		return 0, err
	}
	infoData, err := json.Marshal(info)
	if err != nil {
		return 0, err
	}
	infoData = append(infoData, '\n')
	if _, err := v.remote.Put(ctx, push.object(infoSuffix), bytes.NewReader(infoData)); err != nil {
		return 0, err
	}
	infoSum := sha256.Sum256(infoData)
	lines := []sum{{manifestSum, push.object(manifestSuffix)}, {hex.EncodeToString(infoSum[:]), push.object(infoSuffix)}}
	for _, pack := range p.packs {
		lines = append(lines, sum{pack.SHA256, packName(pack.ID)})
	}
	sumsData := formatSums(lines)
	if _, err := v.remote.Put(ctx, push.object(sumsSuffix), bytes.NewReader(sumsData)); err != nil {
		return 0, err
	}
	if err := v.checkPacks(ctx, p.packs); err != nil {
		return 0, err
	}
	signature, err := o.Signer.Sign(sumsData)
	if err != nil {
		return 0, err
	}
	_, err = v.remote.Put(ctx, push.object(sigSuffix), bytes.NewReader(signature))
	return size, err
}

// checkPacks lists the packs once more: a prune on the other machine, or a
// lying disk, shows before the snapshot is declared to exist.
func (v *Vault) checkPacks(ctx context.Context, packs []packRecord) error {
	entries, err := v.remote.List(ctx, packsDir)
	if err != nil && len(packs) > 0 {
		return err
	}
	sizes := make(map[string]int64, len(entries))
	for _, e := range entries {
		sizes[e.Name] = e.Size
	}
	for _, pack := range packs {
		size, ok := sizes[pack.ID+packSuffix]
		if !ok || size != pack.Size {
			return &failure.Error{Op: "push", Subject: packName(pack.ID), Err: fmt.Errorf("it was stored with %d bytes and is not there whole any more", pack.Size), Hint: "does something else write to the vault's directory?"}
		}
	}
	return nil
}

func (v *Vault) putManifest(ctx context.Context, push PushID, m *Manifest, p *packer) (size int64, digest string, err error) {
	data, err := json.Marshal(m)
	if err != nil {
		return 0, "", err
	}
	sink := newUploadSink(ctx, v.remote, push.object(manifestSuffix))
	seal, err := p.recipients.Seal(sink)
	if err != nil {
		return 0, "", sink.abort(err)
	}
	enc, err := zstd.NewWriter(seal, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return 0, "", sink.abort(err)
	}
	_, err = enc.Write(data)
	if err = errors.Join(err, enc.Close()); err == nil {
		err = seal.Close()
	}
	if err != nil {
		return 0, "", sink.abort(sink.cause(err))
	}
	return sink.finish()
}

func newManifest(src Source, files []FileEntry, packs []packRecord) (*Manifest, error) {
	m := &Manifest{Format: FormatVersion, Stamp: src.Info.Stamp, Created: time.Now().UTC(), Host: src.Host, PageSize: PageSize, Files: files, Packs: []string{}}
	for _, pack := range packs {
		m.Packs = append(m.Packs, pack.ID)
	}
	for name, to := range map[string]*string{snapshot.MetadataFile: &m.Metadata, snapshot.ManifestFile: &m.Atobackupd} {
		data, err := os.ReadFile(filepath.Join(src.Dir, name))
		if err != nil && !(name == snapshot.ManifestFile && errors.Is(err, os.ErrNotExist)) {
			return nil, err
		}
		*to = string(data)
	}
	return m, m.check(src.Info.Stamp)
}

// chunk is a piece of a file on its way to a pack.
type chunk struct {
	file  int   // index into the entries
	page  int64 // first page in the file
	pages int64
	data  []byte // whole pages
}

// ship sends the pages of every file and gives the manifest's entries. One
// goroutine reads and digests; the others compress, encrypt and send, one a
// processor.
func (p *packer) ship(ctx context.Context, src Source, progress func(done, total int64)) ([]FileEntry, error) {
	var entries []FileEntry
	var total int64
	for _, f := range src.Files {
		if f.Path == snapshot.MetadataFile { // carried by the manifest
			continue
		}
		entries = append(entries, FileEntry{File: f})
		total += f.Size
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	group, ctx := errgroup.WithContext(ctx)
	chunks := make(chan chunk, 4)
	buffers := sync.Pool{New: func() any { return make([]byte, chunkPages*PageSize) }}
	group.Go(func() error {
		defer close(chunks)
		return readChunks(ctx, src.Dir, entries, chunks, &buffers, func(done int64) { progress(done, total) })
	})
	var mu sync.Mutex // guards the entries' runs
	for range min(4, runtime.GOMAXPROCS(0)) {
		w, err := p.writer(ctx)
		if err != nil {
			return nil, err
		}
		group.Go(func() (err error) {
			defer func() { w.abandon(err) }()
			for c := range chunks {
				pack, at, err := w.add(c.data)
				if err != nil {
					return err
				}
				mu.Lock()
				entries[c.file].Base = appendRun(entries[c.file].Base, Run{c.page, c.pages, pack, at})
				mu.Unlock()
				buffers.Put(c.data[:cap(c.data)]) //nolint:staticcheck // a slice header is small beside 256 KiB
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return w.finish()
		})
	}
	return entries, group.Wait()
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

var zeroPage [PageSize]byte

// readChunks reads every regular file once, in order, digests it, and sends the
// pages that are not all zeros.
func readChunks(ctx context.Context, dir string, entries []FileEntry, chunks chan<- chunk, buffers *sync.Pool, progress func(done int64)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var done int64
	for i := range entries {
		if entries[i].Type != snapshot.TypeFile {
			continue
		}
		digest := sha256.New()
		size, err := readFile(ctx, root, i, entries[i].Path, digest, chunks, buffers, func(n int64) {
			done += n
			progress(done)
		})
		if err != nil {
			return err
		}
		if size != entries[i].Size || hex.EncodeToString(digest.Sum(nil)) != entries[i].SHA256 {
			return &failure.Error{Op: "push", Subject: filepath.Join(dir, entries[i].Path), Kind: failure.Invalid,
				Err: errors.New("checksum_mismatch: it is not what was snapshotted"), Hint: "the local disk may be failing; check it with `atobackupd scrub`"}
		}
	}
	return nil
}

func readFile(ctx context.Context, root *os.Root, index int, name string, digest hash.Hash, chunks chan<- chunk, buffers *sync.Pool, progress func(int64)) (size int64, err error) {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for page := int64(0); ; page += chunkPages {
		buf := buffers.Get().([]byte)
		n, err := io.ReadFull(f, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return size, err
		}
		last := err != nil
		size += int64(n)
		digest.Write(buf[:n])
		progress(int64(n))
		padded := int(pages(int64(n))) * PageSize
		clear(buf[n:padded])
		if err := sendPages(ctx, index, page, buf[:padded], chunks, buffers); err != nil {
			return size, err
		}
		if last {
			return size, nil
		}
	}
}

// sendPages sends data as one chunk, or as several where pages of zeros lie
// between: those are not stored.
func sendPages(ctx context.Context, file int, page int64, data []byte, chunks chan<- chunk, buffers *sync.Pool) error {
	count := int64(len(data) / PageSize)
	isZero := func(i int64) bool { return bytes.Equal(data[i*PageSize:(i+1)*PageSize], zeroPage[:]) }
	for i := int64(0); i < count; {
		if isZero(i) {
			i++
			continue
		}
		end := i + 1
		for end < count && !isZero(end) {
			end++
		}
		piece := data[i*PageSize : end*PageSize]
		if i > 0 || end < count {
			// Only part of the buffer goes on, so the part gets one of its own.
			own := buffers.Get().([]byte)
			piece = own[:copy(own, piece)]
		}
		select {
		case chunks <- chunk{file, page + i, end - i, piece}:
		case <-ctx.Done():
			return ctx.Err()
		}
		i = end
	}
	return nil
}
