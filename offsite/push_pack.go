package offsite

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/atocore/atobackupd/crypt"
)

const (
	// packTarget is the ciphertext size at which a pack is closed: a cut
	// connection costs about one pack.
	packTarget = 8 << 20
	// packsUnderWay bounds how many packs are open or on their way to being
	// durable: while one is flushed on the other side the next is being sent.
	packsUnderWay = 4
)

// The two layers. Each has packs of its own: base packs live as long as the
// base, patch packs only as long as the snapshots of their days.
const (
	baseLayer = iota
	patchLayer
	layerCount
)

// extent is a run of pages of one file, in a pack.
type extent struct {
	file        int
	page, pages int64
	packPage    int64 // known of packs that are stored
}

// storedPack is a pack that is durable on the remote, and what it holds.
type storedPack struct {
	packRef
	layer   int
	extents []extent
}

// packer puts compressed frames into packs on the remote: one pack a layer is
// open at a time. Its methods may be called from several goroutines at once.
type packer struct {
	ctx        context.Context
	remote     Remote
	recipients *crypt.Recipients
	push       PushID
	arrived    func(storedPack) error // called for each pack that is durable, one at a time

	slots  chan struct{}
	finish sync.WaitGroup
	open   [layerCount]packSlot

	mu    sync.Mutex
	packs []packRef // by index: those of the map, of earlier attempts, ours
	next  int       // the number in the next pack's name
	sent  []storedPack
	err   error // the first
}

// packSlot is a layer's open pack.
type packSlot struct {
	mu   sync.Mutex
	pack *openPack
}

type openPack struct {
	stored storedPack
	index  int
	sink   *uploadSink
	seal   io.WriteCloser
}

func newPacker(ctx context.Context, remote Remote, recipients *crypt.Recipients, push PushID) *packer {
	return &packer{
		ctx: ctx, remote: remote, recipients: recipients, push: push, slots: make(chan struct{}, packsUnderWay),
	}
}

// add appends a frame that holds the pages of extents, and returns in which pack
// and at which page it begins.
func (p *packer) add(layer int, frame []byte, extents []extent) (pack uint32, first int64, err error) {
	pages := int64(0)
	for _, e := range extents {
		pages += e.pages
	}
	slot := &p.open[layer]
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.pack != nil && (slot.pack.sink.n >= packTarget || slot.pack.stored.Pages+pages > maxPackPages) {
		p.detach(slot)
	}
	if slot.pack == nil {
		if slot.pack, err = p.begin(layer); err != nil {
			return 0, 0, err
		}
	}
	o := slot.pack
	if _, err := o.seal.Write(frame); err != nil {
		return 0, 0, p.failed(err)
	}
	first = o.stored.Pages
	o.stored.Pages += pages
	for _, e := range extents {
		o.stored.extents = appendExtent(o.stored.extents, e)
	}
	return uint32(o.index + 1), first, nil
}

// appendExtent adds an extent, joined to the last one where it continues it.
func appendExtent(extents []extent, e extent) []extent {
	if n := len(extents); n > 0 {
		last := &extents[n-1]
		if last.file == e.file && last.page+last.pages == e.page {
			last.pages += e.pages
			return extents
		}
	}
	return append(extents, e)
}

func (p *packer) begin(layer int) (*openPack, error) {
	select {
	case p.slots <- struct{}{}:
	case <-p.ctx.Done():
		return nil, p.failed(p.ctx.Err())
	}
	p.mu.Lock()
	o := &openPack{index: len(p.packs), stored: storedPack{layer: layer}}
	o.stored.ID = fmt.Sprintf("%s-%06d", p.push, p.next)
	p.next++
	p.packs = append(p.packs, packRef{ID: o.stored.ID})
	err := p.err
	p.mu.Unlock()
	if err != nil {
		<-p.slots
		return nil, err
	}
	o.sink = newUploadSink(p.ctx, p.remote, packName(o.stored.ID))
	if o.seal, err = p.recipients.Seal(o.sink); err != nil {
		err = p.failed(o.sink.abort(err))
		<-p.slots
		return nil, err
	}
	return o, nil
}

// detach lets the open pack become durable while others are filled.
func (p *packer) detach(slot *packSlot) {
	o := slot.pack
	slot.pack = nil
	p.finish.Go(func() {
		defer func() { <-p.slots }()
		if err := p.complete(o); err != nil {
			p.failed(err)
		}
	})
}

func (p *packer) complete(o *openPack) error {
	if err := o.seal.Close(); err != nil {
		return o.sink.abort(err)
	}
	size, digest, err := o.sink.finish()
	if err != nil {
		return err
	}
	o.stored.Size, o.stored.SHA256 = size, digest
	p.mu.Lock()
	defer p.mu.Unlock()
	p.packs[o.index] = o.stored.packRef
	p.sent = append(p.sent, o.stored)
	return p.arrived(o.stored)
}

// close completes the open packs, or gives them up when cause is not nil, and
// waits for all. Nothing of a pack that was given up stays under a final name.
func (p *packer) close(cause error) error {
	for i := range p.open {
		slot := &p.open[i]
		slot.mu.Lock()
		if o := slot.pack; o != nil && cause != nil {
			slot.pack = nil
			_ = o.sink.abort(cause)
			<-p.slots
		} else if o != nil {
			p.detach(slot)
		}
		slot.mu.Unlock()
	}
	p.finish.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// number returns a stored pack's number, as locations have it.
func (p *packer) number(pack packRef) uint32 {
	i := slices.IndexFunc(p.packs, func(q packRef) bool { return q.ID == pack.ID })
	if i < 0 {
		p.packs = append(p.packs, pack)
		i = len(p.packs) - 1
	}
	return uint32(i + 1)
}

// failed remembers the first error, and returns it: what fails later fails
// because of it.
func (p *packer) failed(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	return p.err
}

// uploadSink is a writer whose bytes go to one object of the remote, counted
// and digested on their way.
type uploadSink struct {
	pipe   *io.PipeWriter
	buf    *bufio.Writer
	hash   hash.Hash
	n      int64
	result chan putResult
}

type putResult struct {
	n   int64
	err error
}

func newUploadSink(ctx context.Context, remote Remote, name string) *uploadSink {
	r, w := io.Pipe()
	s := &uploadSink{pipe: w, buf: bufio.NewWriterSize(w, 128<<10), hash: sha256.New(), result: make(chan putResult, 1)}
	go func() {
		n, err := remote.Put(ctx, name, r)
		r.CloseWithError(err) // the writer gets the reason, not a broken pipe
		s.result <- putResult{n, err}
	}()
	return s
}

func (s *uploadSink) Write(p []byte) (int, error) {
	s.hash.Write(p)
	s.n += int64(len(p))
	return s.buf.Write(p)
}

// finish waits until the object is durable.
func (s *uploadSink) finish() (size int64, digest string, err error) {
	if err := s.buf.Flush(); err != nil {
		return 0, "", s.abort(err)
	}
	s.pipe.Close()
	put := <-s.result
	if put.err != nil {
		return 0, "", put.err
	}
	if put.n != s.n {
		return 0, "", fmt.Errorf("the remote took %d bytes of %d", put.n, s.n)
	}
	return s.n, hex.EncodeToString(s.hash.Sum(nil)), nil
}

// abort ends the upload and returns its real cause: where the remote failed, the
// remote's error and not what followed from it.
func (s *uploadSink) abort(cause error) error {
	s.pipe.CloseWithError(cause)
	put := <-s.result
	if put.err != nil && !errors.Is(put.err, cause) {
		return put.err
	}
	return cause
}
