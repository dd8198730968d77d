// Package sftp is an offsite.Remote on another machine, over SFTP.
//
// It speaks to OpenSSH's sftp-server, which has fsync@openssh.com for files and
// directories, a plain rename that refuses to replace, statvfs@openssh.com, and
// hardlink@openssh.com, without which no target can be append-only. What another
// server lacks of the rest is lived with, and said by Lacks. One connection serves
// all operations of a run. When it breaks, every operation fails with kind
// Unreachable, within a bounded time even when the peer has just stopped
// answering, and the caller dials again.
//
// What it does not promise: after Unreachable, a Put or Move may have taken
// effect, for the answer may be what was lost; the object is then whole. On a
// server whose rename replaces, two machines that publish one name at the same
// moment could replace each other's; OpenSSH's does not. Where a server shows a
// symbolic link as what it leads to, as ProFTPD does, a link planted in the vault
// leads where that machine lets it.
package sftp

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/time/rate"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// The extensions of OpenSSH that are used.
const (
	extFsync    = "fsync@openssh.com"
	extHardlink = "hardlink@openssh.com"
	extStatVFS  = "statvfs@openssh.com"
	extLimits   = "limits@openssh.com"
)

// One request reads or writes at most this much: 32 KiB, which every server
// takes, or where it has limits@openssh.com (OpenSSH 8.5) the 255 KiB that it
// allows, at an eighth of the requests.
const (
	smallPacket = 32 << 10
	largePacket = 255 << 10
)

// Remote is a vault's directory on another machine.
type Remote struct {
	*common
	cfg    Config
	host   string // the one of cfg.Hosts that answered
	watch  *watch
	client client
	packet int           // bytes that one request reads or writes at most
	grace  time.Duration // cancelGrace, shorter in tests
	puts   atomic.Int32  // under way here
	second second
	close  func() error
}

// common is what both servers of one connection (see second) know together.
type common struct {
	limit     *rate.Limiter // of what all Puts together send, or nil
	renaming  sync.Mutex
	roundTrip atomic.Int64              // the shortest one seen, in nanoseconds
	dirs      sync.Map                  // directories below the root known to exist and to be no links
	lastFull  atomic.Pointer[time.Time] // when the disk there was last seen full

	// What the server announced, and then could not do.
	noFlush, noDirFlush, noStatVFS atomic.Bool
}

var _ offsite.Remote = (*Remote)(nil)

// newRemote starts the SFTP protocol on l. The link is killed when that fails.
func newRemote(ctx context.Context, host string, l link, cfg Config) (*Remote, error) {
	r := &Remote{
		common: &common{limit: offsite.NewLimiter(cfg.BandwidthLimit)},
		cfg:    cfg, host: host, packet: smallPacket, grace: cancelGrace,
	}
	r.watch = newWatch(l, cfg.OpTimeout)
	stop := context.AfterFunc(ctx, func() { r.watch.breakOff(context.Cause(ctx)) })
	defer stop()
	c, err := sftp.NewClientPipe(r.watch, r.watch, sftp.UseFstat(true))
	if err != nil {
		if cause := r.watch.broken(); cause != nil {
			err = cause
		}
		if l.refusal != nil {
			err = l.refusal(err) // before the link is killed, for it may still have to tell
		}
		r.watch.breakOff(err)
		return nil, err
	}
	r.client = client{c}
	if r.has(extLimits) {
		r.packet = largePacket
		_ = sftp.MaxPacketUnchecked(largePacket)(c) // fails only below 1
	}
	r.watch.start() // until here, while ssh found its way, ctx bounded it
	r.close = sync.OnceValue(func() error {
		r.second.end()
		r.watch.breakOff(errClosed)
		c.Close() // says only that the link is gone
		return nil
	})
	return r, nil
}

// Host returns which of the configured hosts answered.
func (r *Remote) Host() string { return r.host }

// Close ends the connection at once.
func (r *Remote) Close() error { return r.close() }

// has reports whether the server offers an extension.
func (r *Remote) has(extension string) bool {
	_, ok := r.client.HasExtension(extension)
	return ok
}

// at returns name's path on the server.
func (r *Remote) at(name string) string { return path.Join(r.cfg.Path, name) }

// List returns the entries of one directory, sorted by name.
func (r *Remote) List(ctx context.Context, dir string) ([]offsite.Entry, error) {
	o, err := r.begin(ctx, "list", dir)
	if err != nil {
		return nil, err
	}
	listing, err := r.list(ctx, dir)
	if err := o.end(err); err != nil {
		return nil, err
	}
	return listing.Sorted(), nil
}

// list reads a directory within the bounds: the library would keep whatever the
// server sends until that ends, so what comes is counted below it.
func (r *Remote) list(ctx context.Context, dir string) (listing offsite.Listing, err error) {
	if err := r.findDir(dir); err != nil {
		return listing, err
	}
	bounded, end := context.WithTimeout(ctx, offsite.ListTimeout)
	defer end()
	bounded, stop := context.WithCancelCause(bounded)
	defer stop(nil)
	defer r.watch.boundNames(func() { stop(offsite.ErrEndless) })()
	// A server that is out of bounds does not close the directory either.
	defer context.AfterFunc(bounded, func() {
		if ctx.Err() == nil {
			r.watch.breakOff(context.Cause(bounded))
		}
	})()
	infos, err := r.client.ReadDirContext(bounded, r.at(dir))
	if cause := context.Cause(bounded); cause != nil && ctx.Err() == nil {
		err = local{cause}
	}
	if err != nil {
		return listing, err
	}
	for _, info := range infos {
		if err := listing.Add(entryOf(info)); err != nil {
			return listing, local{err}
		}
	}
	return listing, nil
}

func entryOf(info fs.FileInfo) offsite.Entry {
	return offsite.Entry{
		Name: info.Name(), Size: info.Size(), MTime: info.ModTime(), Dir: info.IsDir(),
		Other: !info.IsDir() && !info.Mode().IsRegular(),
	}
}

// Stat describes one object, a symbolic link as itself.
func (r *Remote) Stat(ctx context.Context, name string) (offsite.Entry, error) {
	o, err := r.begin(ctx, "stat", name)
	if err != nil {
		return offsite.Entry{}, err
	}
	info, err := r.lstat(name)
	if err := o.end(err); err != nil {
		return offsite.Entry{}, err
	}
	return entryOf(info), nil
}

// lstat describes an object whose directories are real ones.
func (r *Remote) lstat(name string) (fs.FileInfo, error) {
	if err := r.findDir(path.Dir(name)); err != nil {
		return nil, err
	}
	return r.client.Lstat(r.at(name))
}

// absent fails with fs.ErrExist if there is something under name.
func (r *Remote) absent(name string) error {
	switch _, err := r.client.Lstat(r.at(name)); {
	case err == nil:
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// Open reads an object from its first byte, ahead of the reader. ctx covers the
// reading too. Only regular files are objects.
func (r *Remote) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := r.begin(ctx, "read", name)
	if err != nil {
		return nil, err
	}
	f, size, err := r.openFile(name)
	if err != nil {
		return nil, o.end(err)
	}
	return newReadAhead(o, f, size), nil
}

func (r *Remote) openFile(name string) (f *sftp.File, size int64, err error) {
	info, err := r.lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, local{errors.New("is not a regular file")}
	}
	f, err = r.client.Open(r.at(name))
	return f, info.Size(), err
}

// Remove deletes one object or empty directory durably.
func (r *Remote) Remove(ctx context.Context, name string) error {
	o, err := r.begin(ctx, "remove", name)
	if err != nil {
		return err
	}
	return o.end(r.remove(name))
}

func (r *Remote) remove(name string) error {
	if r.cfg.AppendOnly {
		return errAppendOnly
	}
	if err := r.watch.broken(); err != nil {
		return err
	}
	info, err := r.lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		r.forgetDirs()
		err = r.client.RemoveDirectory(r.at(name))
	} else {
		err = r.client.Remove(r.at(name))
	}
	if err != nil {
		return err
	}
	return r.syncDir(path.Dir(name))
}

// errAppendOnly refuses what an append-only target's client must not even try.
var errAppendOnly = &failure.Error{
	Op: "refused", Kind: failure.Refused, Err: errors.New("the target is append-only"),
	Hint: "prune on the machine that holds it: atobackupd vault prune --dir PATH",
}

// Free returns the bytes that the account may still write, or -1 where the server
// cannot say. A root that was not made yet has the space of what it will lie in.
func (r *Remote) Free(ctx context.Context) (int64, error) {
	o, err := r.begin(ctx, "ask for free space", ".")
	if err != nil {
		return 0, err
	}
	n, err := r.freeSpace()
	return n, o.end(err)
}

func (r *Remote) freeSpace() (int64, error) {
	if !r.has(extStatVFS) {
		return -1, r.watch.broken()
	}
	for dir := r.cfg.Path; ; dir = path.Dir(dir) {
		vfs, err := r.client.StatVFS(dir)
		if err == nil {
			return int64(vfs.Bavail * vfs.Frsize), nil
		}
		if isUnsupported(err) {
			r.noStatVFS.Store(true)
			return -1, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == path.Dir(dir) {
			return 0, err
		}
	}
}
