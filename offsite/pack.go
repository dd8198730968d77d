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
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/atocore/atobackupd/crypt"
)

// packTarget is the ciphertext size at which a pack is closed: a cut
// connection costs about one pack.
const packTarget = 8 << 20

// packRecord is what is known of a pack once it is durable on the remote.
type packRecord struct {
	ID     string
	SHA256 string
	Size   int64
}

// packer turns pages into packs on the remote. Several packWriters may fill
// packs of one packer at once, each from its own goroutine.
type packer struct {
	remote     Remote
	recipients *crypt.Recipients
	push       PushID
	level      zstd.EncoderLevel

	mu    sync.Mutex
	packs []packRecord // by index; complete when every writer was closed
}

// reserve gives the next pack its index and id.
func (p *packer) reserve() (index int64, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	index = int64(len(p.packs))
	id = fmt.Sprintf("%s-%06d", p.push, index)
	p.packs = append(p.packs, packRecord{ID: id})
	return index, id
}

func (p *packer) done(index int64, record packRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.packs[index] = record
}

// packWriter fills one pack after another: pages → zstd → age → digest → Put.
// Memory is bounded by the compressor's window and a few buffers, whatever the
// size of what goes through.
type packWriter struct {
	packer *packer
	ctx    context.Context
	enc    *zstd.Encoder

	open  bool
	index int64
	id    string
	pages int64
	sink  *uploadSink
	seal  io.WriteCloser
}

func (p *packer) writer(ctx context.Context) (*packWriter, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(p.level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &packWriter{packer: p, ctx: ctx, enc: enc}, nil
}

// add appends whole pages and tells where they went.
func (w *packWriter) add(data []byte) (pack, firstPage int64, err error) {
	n := int64(len(data) / PageSize)
	if w.open && (w.sink.n >= packTarget || w.pages+n > maxPackPages) {
		if err := w.finish(); err != nil {
			return 0, 0, err
		}
	}
	if !w.open {
		if err := w.begin(); err != nil {
			return 0, 0, err
		}
	}
	if _, err := w.enc.Write(data); err != nil {
		return 0, 0, w.sink.cause(err)
	}
	first := w.pages
	w.pages += n
	return w.index, first, nil
}

func (w *packWriter) begin() error {
	w.index, w.id = w.packer.reserve()
	w.sink = newUploadSink(w.ctx, w.packer.remote, packName(w.id))
	seal, err := w.packer.recipients.Seal(w.sink)
	if err != nil {
		return errors.Join(err, w.sink.abort(err))
	}
	w.seal, w.pages, w.open = seal, 0, true
	w.enc.Reset(seal)
	return nil
}

// finish closes the pack under way, if any, and waits until it is durable.
func (w *packWriter) finish() error {
	if !w.open {
		return nil
	}
	w.open = false
	err := w.enc.Close()
	if err == nil {
		err = w.seal.Close()
	}
	if err != nil {
		return w.sink.abort(err)
	}
	size, digest, err := w.sink.finish()
	if err != nil {
		return err
	}
	w.packer.done(w.index, packRecord{ID: w.id, SHA256: digest, Size: size})
	return nil
}

// abandon gives up the pack under way; nothing of it stays under a final name.
func (w *packWriter) abandon(cause error) {
	if w.open {
		w.open = false
		_ = w.sink.abort(cause)
	}
	w.enc.Close()
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
	s := &uploadSink{pipe: w, buf: bufio.NewWriterSize(w, 256<<10), hash: sha256.New(), result: make(chan putResult, 1)}
	go func() {
		n, err := remote.Put(ctx, name, r)
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
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

// abort ends the upload and gives its real cause: where the remote failed, the
// remote's error and not the broken pipe that followed from it.
func (s *uploadSink) abort(cause error) error {
	s.pipe.CloseWithError(cause)
	put := <-s.result
	if put.err != nil && !errors.Is(put.err, cause) {
		return put.err
	}
	return cause
}

// cause looks up why a write failed.
func (s *uploadSink) cause(err error) error {
	select {
	case put := <-s.result:
		s.result <- put
		if put.err != nil {
			return put.err
		}
	default:
	}
	return err
}
