package sftp

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/time/rate"

	"github.com/atocore/atobackupd/offsite"
)

// A Put sends this much ahead of the answers: what the line holds in a round trip
// at fastLine bytes a second. More than that waits in OpenSSH's server, which
// moves its whole queue about again and again: 2 MiB ahead on a fast line, all of
// its window, cost it three times the processor time of 512 KiB.
const (
	leastAhead = 512 << 10
	mostAhead  = 2 << 20
	fastLine   = 200 << 20
)

// bytesAhead returns how much a Put sends ahead on a line with this round trip.
func bytesAhead(roundTrip time.Duration) int {
	return int(min(max(leastAhead, roundTrip.Seconds()*fastLine), mostAhead))
}

// noteRoundTrip keeps the shortest round trip: others were longer because the
// server had something else to do first.
func (r *Remote) noteRoundTrip(took time.Duration) {
	for {
		least := r.roundTrip.Load()
		if least != 0 && int64(took) >= least || r.roundTrip.CompareAndSwap(least, int64(took)) {
			return
		}
	}
}

// Put stores src's bytes under name, durably, and never replaces an object.
// src must not block for ever: it is read until it ends, fails, or ctx has ended
// between two of its reads.
func (r *Remote) Put(ctx context.Context, name string, src io.Reader) (int64, error) {
	r = r.leastBusy()
	r.puts.Add(1)
	defer r.puts.Add(-1)
	o, err := r.begin(ctx, "store", name)
	if err != nil {
		return 0, err
	}
	temp := path.Join(offsite.IncomingDir, path.Base(name)+"."+rand.Text())
	n, err := r.put(ctx, temp, name, src)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			r.forgetDirs() // somebody there has removed one
		}
		// First the reason, while a full disk is still full; then away with it.
		err = o.explain(err)
		r.discard(temp)
		o.stop()
		return 0, err
	}
	return n, o.end(nil)
}

func (r *Remote) put(ctx context.Context, temp, name string, src io.Reader) (int64, error) {
	if err := r.watch.broken(); err != nil {
		return 0, err
	}
	for _, dir := range []string{offsite.IncomingDir, path.Dir(name)} {
		if err := r.makeDir(dir); err != nil {
			return 0, err
		}
	}
	// Publishing refuses this too; asking first saves the upload.
	asked := time.Now()
	if err := r.absent(name); err != nil {
		return 0, err
	}
	r.noteRoundTrip(time.Since(asked))
	sealed := path.Ext(name) == ".age"
	n, checked, err := r.upload(ctx, temp, sealed, src)
	if err == nil && sealed && !checked {
		err = r.checkSealed(temp)
	}
	if err != nil {
		return 0, err
	}
	return n, r.publish(temp, name)
}

// upload fills a new file and returns once the server has it on its disk. checked
// says that it begins as it must.
func (r *Remote) upload(
	ctx context.Context, temp string, sealed bool, src io.Reader,
) (n int64, checked bool, err error) {
	f, err := r.client.OpenFile(r.at(temp), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return 0, false, err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	s := &source{ctx: ctx, src: src, limit: r.limit}
	// Many writes are under way at once, so a failure may leave holes in what
	// looks like a long enough file. A partial is therefore never used again.
	_, err = f.ReadFromWithConcurrency(s, bytesAhead(time.Duration(r.roundTrip.Load()))/r.packet)
	if s.err != nil {
		return 0, false, local{s.err}
	}
	if err != nil {
		return 0, false, err
	}
	info, err := described(f.Stat())
	if err != nil {
		return 0, false, err
	}
	if info.Size() != s.n {
		return 0, false, local{fmt.Errorf("sent %d bytes, but the file has %d", s.n, info.Size())}
	}
	// rclone takes a read of what is open for writing for a write of zeros.
	if checked = sealed && r.has(extFsync); checked {
		if err := sealedError(offsite.CheckSealed(f)); err != nil {
			return 0, false, err
		}
	}
	return s.n, checked, r.sync(f)
}

// checkSealed reads the first bytes of what was uploaded, opened anew.
func (r *Remote) checkSealed(temp string) error {
	f, err := r.client.Open(r.at(temp))
	if err != nil {
		return err
	}
	defer f.Close()
	return sealedError(offsite.CheckSealed(f))
}

// sealedError tells bytes in the clear from a connection that broke.
func sealedError(err error) error {
	if errors.Is(err, offsite.ErrInTheClear) {
		return local{err}
	}
	return err
}

// discard removes a partial, as well as that can be done: the connection may
// be gone, and what stays in incoming/ is swept in time.
func (r *Remote) discard(temp string) {
	if !r.cfg.AppendOnly && r.watch.broken() == nil {
		_ = r.client.Remove(r.at(temp))
	}
}

// source reads src at the permitted rate until ctx ends, counts, and keeps the
// error for itself: the SFTP library takes one that wraps io.EOF for the end.
type source struct {
	ctx   context.Context
	src   io.Reader
	limit *rate.Limiter
	n     int64
	err   error
}

// errSource stands for source.err within the SFTP library.
var errSource = errors.New("the source failed")

func (s *source) Read(p []byte) (int, error) {
	if s.err = s.ctx.Err(); s.err != nil {
		return 0, errSource
	}
	if s.limit != nil {
		p = p[:min(len(p), s.limit.Burst())]
	}
	n, err := s.src.Read(p)
	s.n += int64(n)
	if s.limit != nil && n > 0 {
		if s.limit.WaitN(s.ctx, n) != nil {
			// It also fails at once when ctx would end before our turn.
			err = cmp.Or(s.ctx.Err(), context.DeadlineExceeded)
		}
	}
	if err != nil && err != io.EOF {
		s.err = err
		return n, errSource
	}
	return n, err
}
