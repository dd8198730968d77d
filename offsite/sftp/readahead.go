package sftp

import (
	"io"
	"sync"

	"github.com/pkg/sftp"
)

// Reading ahead: a plain Read would wait a round trip for each packet. While
// the caller works on one chunk the next is on its way, all its packets at
// once; three chunks at most are held.
const (
	chunkSize   = 2 * largePacket
	chunksAhead = 2
)

// readAhead reads a remote file in a goroutine of its own.
type readAhead struct {
	op      *operation
	file    *sftp.File
	size    int64 // that it was said to have
	chunks  chan chunk
	current chunk
	stop    chan struct{}
	close   func() error
}

// chunk is some bytes, or the error that ends the stream.
type chunk struct {
	buf  *[chunkSize]byte // that data lies in, or nil
	data []byte           // what of it is still to be read
	err  error
}

// newReadAhead begins to read f, which should have size bytes. Close ends the
// operation o.
func newReadAhead(o *operation, f *sftp.File, size int64) *readAhead {
	a := &readAhead{op: o, file: f, size: size, chunks: make(chan chunk, chunksAhead-1), stop: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.run()
	}()
	a.close = sync.OnceValue(func() error {
		close(a.stop)
		<-done
		return o.end(f.Close())
	})
	return a
}

// buffers are used again by whatever is read next.
var buffers = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// run fetches chunk after chunk until the end, an error, or Close.
func (a *readAhead) run() {
	for offset := int64(0); ; {
		c := a.newChunk(offset)
		n, err := a.file.ReadAt(c.data, offset)
		offset += int64(n)
		// The library takes a short answer in the middle of a file for its end.
		// The end is certain only when a read there returns nothing. Identity, not
		// errors.Is: a broken connection returns errors that wrap io.EOF.
		if err == io.EOF && n > 0 {
			err = nil
		}
		c.data, c.err = c.data[:n], err
		select {
		case a.chunks <- c:
		case <-a.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// newChunk returns the room for what is read at offset. Most objects that a sync
// reads are of a few hundred bytes, as are the ends of all, which a large buffer
// would be cleared for.
func (a *readAhead) newChunk(offset int64) chunk {
	const few = 32 << 10
	if left := a.size - offset; left < few {
		return chunk{data: make([]byte, max(left, 0)+512)}
	}
	buf := buffers.Get().(*[chunkSize]byte)
	return chunk{buf: buf, data: buf[:]}
}

// Read returns the next bytes. After its context has ended it fails.
func (a *readAhead) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(a.current.data) == 0 {
		if err := a.current.err; err == io.EOF {
			return 0, io.EOF
		} else if err != nil {
			return 0, a.op.explain(err)
		}
		a.recycle()
		select {
		case a.current = <-a.chunks:
		case <-a.op.ctx.Done():
			return 0, a.op.explain(local{a.op.ctx.Err()})
		case <-a.stop:
			return 0, a.op.explain(local{io.ErrClosedPipe})
		}
	}
	n := copy(p, a.current.data)
	a.current.data = a.current.data[n:]
	return n, nil
}

// recycle hands back the current chunk's buffer once it was read out.
func (a *readAhead) recycle() {
	if a.current.buf != nil {
		buffers.Put(a.current.buf)
		a.current.buf = nil
	}
}

// Close ends the reading.
func (a *readAhead) Close() error { return a.close() }
