package s3

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/time/rate"

	"github.com/atocore/atobackupd/offsite"
)

// maxObject is what one put may hold: S3 takes no more in one request.
const maxObject = 5 << 30

// Put stores src's bytes under name and never replaces an object. The service
// checks the digests that come with the request before it answers.
func (r *Remote) Put(ctx context.Context, name string, src io.Reader) (int64, error) {
	if err := r.check(ctx, "store", name); err != nil {
		return 0, err
	}
	b, err := gather(ctx, src)
	if err == nil {
		defer b.release()
		err = r.put(ctx, name, b)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return 0, r.explain("store", name, err)
	}
	return b.size, nil
}

func (r *Remote) put(ctx context.Context, name string, b *body) error {
	if path.Ext(name) == ".age" {
		if err := offsite.CheckSealed(b.reader()); err != nil {
			return local{err}
		}
	}
	if !r.reserve(name) {
		return fs.ErrExist // of two at once, the first
	}
	defer r.unreserve(name)
	if r.isKnown(name) {
		return fs.ErrExist // also behind a marker, over which some services put
	}
	if err := r.knowConditional(ctx); err != nil {
		return err
	}
	if r.state.Conditional {
		return r.putIfAbsent(ctx, name, b)
	}
	return r.putAndLook(ctx, name, b)
}

func (r *Remote) reserve(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.putting[name] {
		return false
	}
	r.putting[name] = true
	return true
}

func (r *Remote) isKnown(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.known[name]
	return ok
}

func (r *Remote) unreserve(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.putting, name)
}

// putIfAbsent lets the service refuse to replace.
func (r *Remote) putIfAbsent(ctx context.Context, name string, b *body) error {
	for try := 0; ; try++ {
		sent := &attempts{}
		_, err := r.send(context.WithValue(ctx, attemptsKey{}, sent), name, b, true)
		switch code(err) {
		case "PreconditionFailed":
			return r.refused(ctx, name, b, sent.n.Load() > 1)
		case "ConditionalRequestConflict", "OperationAborted":
			// Somebody else's put of this name was under way.
			if try < retries {
				continue
			}
		}
		return err
	}
}

// refused finds out why a put was refused because of what lies under name.
func (r *Remote) refused(ctx context.Context, name string, b *body, repeated bool) error {
	r.forgetTree()
	o, ok, err := r.lookAt(ctx, name)
	switch {
	case err != nil:
		return err
	case !ok && r.state.Versions:
		// Nothing but a delete marker, which some services take for an object.
		return r.putAndLook(ctx, name, b)
	case ok && repeated && o.Size == b.size && o.etag == hex.EncodeToString(b.md5):
		return nil // ours: the answer to the first of several sendings was lost
	}
	return fs.ErrExist
}

// putAndLook is for services without conditional puts: look, put, look again. In
// a bucket with versions the oldest one has won.
func (r *Remote) putAndLook(ctx context.Context, name string, b *body) error {
	if _, ok, err := r.lookAt(ctx, name); err != nil || ok {
		return cmp.Or(err, error(fs.ErrExist))
	}
	version, err := r.send(ctx, name, b, false)
	if err != nil {
		return err
	}
	o, ok, err := r.lookAt(ctx, name)
	switch {
	case err != nil:
		return err
	case !ok:
		return local{errors.New("it is not there after it was put")}
	case r.state.Versions && version != "" && o.version != version:
		// A lock may keep ours from going; it stays a version that nobody reads.
		_ = r.core.RemoveObject(ctx, r.cfg.Bucket, r.cfg.key(name), minio.RemoveObjectOptions{VersionID: version})
		return fs.ErrExist
	case o.Size != b.size:
		return fs.ErrExist
	}
	return nil
}

// send puts b once, as far as the library need not repeat it.
func (r *Remote) send(ctx context.Context, name string, b *body, conditional bool) (version string, err error) {
	// Over http the library would sign each 64 KiB by itself, with a digest of its
	// own; the body's is known and signed.
	options := minio.PutObjectOptions{Progress: pacer{ctx, r.limit}, DisableContentSha256: true}
	if conditional {
		options.SetMatchETagExcept("*")
	}
	until := r.lockUntil(name, time.Now())
	if !until.IsZero() {
		options.Mode, options.RetainUntilDate = minio.Compliance, until
	}
	info, err := r.core.PutObject(ctx, r.cfg.Bucket, r.cfg.key(name), b.reader(), b.size,
		base64.StdEncoding.EncodeToString(b.md5), hex.EncodeToString(b.sha256), options)
	if err != nil {
		return "", err
	}
	r.state.locked(name, until)
	o := object{Entry: offsite.Entry{Name: path.Base(name), Size: b.size, MTime: r.Time()}, version: info.VersionID,
		etag: info.ETag, alone: true}
	if r.state.Versions && info.VersionID != "" {
		r.mu.Lock()
		r.known[name] = o
		r.mu.Unlock()
	}
	if conditional {
		r.changed(name, &o)
	} else {
		r.forgetTree() // whose it is shows the look after it
	}
	return info.VersionID, nil
}

// attempts counts how often the library sent one request.
type attempts struct{ n atomic.Int32 }

type attemptsKey struct{}

func countAttempt(req *http.Request) {
	if a, ok := req.Context().Value(attemptsKey{}).(*attempts); ok {
		a.n.Add(1)
	}
}

// body is the bytes of one object, whose number must be known before the first
// is sent.
type body struct {
	size        int64
	md5, sha256 []byte
	blocks      []*block // or, of a large one:
	file        *os.File
}

// block is a piece of a body. Pieces of one size are used again by the next body
// without being copied, cleared or grown.
type block [1 << 20]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// inMemory is more than a pack has.
const inMemory = 16 << 20

// gather reads src until it ends, fails, or ctx has ended between two of its
// reads. What does not fit the memory goes to a file that has no name.
func gather(ctx context.Context, src io.Reader) (_ *body, err error) {
	b := &body{}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	s := &source{ctx: ctx, src: src, md5: md5.New(), sha256: sha256.New()}
	for err == nil && s.n < inMemory {
		next := blocks.Get().(*block)
		b.blocks = append(b.blocks, next)
		err = s.fill(next[:])
	}
	if err == nil {
		err = b.spill(s)
	}
	if err != io.EOF {
		return nil, local{err}
	}
	err = nil
	b.size, b.md5, b.sha256 = s.n, s.md5.Sum(nil), s.sha256.Sum(nil)
	return b, nil
}

// spill moves what was read, and what follows, to a file. It returns io.EOF at the
// source's end.
func (b *body) spill(s *source) error {
	f, err := os.CreateTemp("", "atobackupd-s3-")
	if err != nil {
		return err
	}
	b.file = f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	for _, piece := range b.blocks {
		if _, err := f.Write(piece[:]); err != nil {
			return err
		}
	}
	if _, err := io.Copy(struct{ io.Writer }{f}, io.LimitReader(s, maxObject-inMemory+1)); err != nil {
		return err
	}
	if s.n > maxObject {
		return fmt.Errorf("it has more than %d bytes, which no single put takes", maxObject)
	}
	return io.EOF
}

// reader returns the bytes from the first. The library goes back in it to send
// them again.
func (b *body) reader() *io.SectionReader {
	if b.file != nil {
		return io.NewSectionReader(b.file, 0, b.size)
	}
	return io.NewSectionReader(pieces(b.blocks), 0, b.size)
}

func (b *body) release() {
	if b.file != nil {
		b.file.Close()
	}
	for _, piece := range b.blocks {
		blocks.Put(piece)
	}
}

// pieces reads blocks as one.
type pieces []*block

// ReadAt fills to, across the blocks' borders.
func (p pieces) ReadAt(to []byte, at int64) (n int, err error) {
	for n < len(to) {
		from := at + int64(n)
		i := int(from / int64(len(block{})))
		if i >= len(p) {
			return n, io.EOF
		}
		n += copy(to[n:], p[i][from%int64(len(block{})):])
	}
	return n, nil
}

// source reads src until ctx ends, counts and digests.
type source struct {
	ctx         context.Context
	src         io.Reader
	n           int64
	md5, sha256 hash.Hash
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.src.Read(p)
	s.n += int64(n)
	s.md5.Write(p[:n])
	s.sha256.Write(p[:n])
	return n, err
}

// fill reads until p is full, or to the source's end or error. The source's own
// io.ErrUnexpectedEOF is an error, where io.ReadFull would take it for the end.
func (s *source) fill(p []byte) (err error) {
	for n := 0; n < len(p) && err == nil; {
		var read int
		read, err = s.Read(p[n:])
		n += read
	}
	return err
}

// pacer holds the sending back to the permitted rate.
type pacer struct {
	ctx   context.Context
	limit *rate.Limiter
}

func (p pacer) Read(sent []byte) (int, error) {
	if p.limit == nil {
		return len(sent), nil
	}
	for left := len(sent); left > 0; {
		n := min(left, p.limit.Burst())
		if p.limit.WaitN(p.ctx, n) != nil {
			// It also fails at once when ctx would end before our turn.
			return 0, cmp.Or(p.ctx.Err(), context.DeadlineExceeded)
		}
		left -= n
	}
	return len(sent), nil
}

// unlocked reports whether name's objects pass by: probes, and packs on their
// way out.
func unlocked(name string) bool {
	return strings.HasPrefix(name, "incoming/") || strings.HasPrefix(name, "trash/")
}
