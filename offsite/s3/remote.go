package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/time/rate"

	"github.com/atocore/atobackupd/offsite"
)

// retries is how often the library sends one request, with growing pauses.
const retries = 5

// Remote is a vault in a bucket.
type Remote struct {
	cfg       Config
	core      minio.Core
	transport *http.Transport
	limit     *rate.Limiter // of what all Puts together send, or nil
	state     *state
	closed    atomic.Bool
	ahead     *atomic.Int64 // how much the service's clock is ahead of ours

	mu       sync.Mutex
	known    map[string]object // what lies under a name, as last listed or put on this connection
	tampered map[string]string // what somebody else did, by name
	putting  map[string]bool   // names that are being put

	treeMu sync.Mutex
	tree   *tree

	documents string          // where small objects are kept, or ""
	used      map[string]bool // of those
}

var (
	_ offsite.Remote   = (*Remote)(nil)
	_ offsite.Retainer = (*Remote)(nil)
)

// Open connects to the bucket. What the service can do is asked for once a week.
func Open(ctx context.Context, cfg Config) (*Remote, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	transport := newTransport(cfg)
	return open(ctx, cfg, transport, transport)
}

func open(ctx context.Context, cfg Config, transport *http.Transport, trip http.RoundTripper) (*Remote, error) {
	keys, err := cfg.keys()
	if err != nil {
		return nil, err
	}
	endpoint, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	ahead := new(atomic.Int64)
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: keys, Secure: endpoint.Scheme == "https", Region: cfg.Region, MaxRetries: retries,
		Transport: boundedTransport{trip, ahead},
	})
	r := &Remote{
		ahead: ahead,
		cfg:   cfg, core: minio.Core{Client: client}, transport: transport,
		limit: offsite.NewLimiter(cfg.BandwidthLimit),
		known: map[string]object{}, tampered: map[string]string{}, putting: map[string]bool{},
	}
	if err != nil {
		return nil, r.explain("connect", "", local{err})
	}
	r.state = loadState(cfg)
	if r.state.stale(cfg, time.Now()) {
		if err := r.Probe(ctx); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

// Host returns the endpoint, for messages.
func (r *Remote) Host() string { return r.cfg.Endpoint + " (bucket " + r.cfg.Bucket + ")" }

// Close ends the use of the bucket, and keeps what was learned of locks.
func (r *Remote) Close() error {
	r.closed.Store(true)
	r.transport.CloseIdleConnections()
	r.dropDocuments()
	if !r.state.isChanged() {
		return nil
	}
	return r.state.save()
}

// Time returns the service's time, to the second, as its last answer had it.
func (r *Remote) Time() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }

// Free returns -1: a bucket does not say.
func (r *Remote) Free(ctx context.Context) (int64, error) {
	return -1, r.check(ctx, "ask for free space")
}

// Stat describes one object, or a directory that has something in it.
func (r *Remote) Stat(ctx context.Context, name string) (offsite.Entry, error) {
	if err := r.check(ctx, "stat", name); err != nil {
		return offsite.Entry{}, err
	}
	if name == "." {
		return offsite.Entry{Name: ".", Dir: true}, nil
	}
	o, err := r.look(ctx, name)
	if err != nil {
		return offsite.Entry{}, r.explain("stat", name, err)
	}
	return o.Entry, nil
}

// Open reads an object from its first byte.
func (r *Remote) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := r.check(ctx, "read", name); err != nil {
		return nil, err
	}
	body, err := r.open(ctx, name)
	if err != nil {
		return nil, r.explain("read", name, err)
	}
	return &reader{body: body, remote: r, name: name, ctx: ctx}, nil
}

func (r *Remote) open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := r.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if o.Dir {
		return nil, local{fmt.Errorf("it is a directory")}
	}
	document := r.documentPath(name, o)
	if document != "" {
		if data, ok := readDocument(document, o.Size); ok {
			r.usedDocument(document)
			return io.NopCloser(bytes.NewReader(data)), nil
		}
	}
	body, _, _, err := r.core.GetObject(ctx, r.cfg.Bucket, r.cfg.key(name),
		minio.GetObjectOptions{VersionID: o.version})
	if missing(err) {
		r.forget(name)
		return nil, fs.ErrNotExist
	}
	if err == nil && document != "" {
		return r.keepDocument(document, o.Size, body)
	}
	return body, err
}

// find is look without a request for what this connection knows, or, where
// there are no versions, for what the reading itself will tell.
func (r *Remote) find(ctx context.Context, name string) (object, error) {
	if !r.state.Versions && r.cfg.ListFor == 0 {
		return object{}, nil
	}
	r.mu.Lock()
	o, ok := r.known[name]
	r.mu.Unlock()
	if ok {
		return o, nil
	}
	return r.look(ctx, name)
}

func (r *Remote) forget(name string) {
	r.mu.Lock()
	delete(r.known, name)
	r.mu.Unlock()
	r.forgetTree()
}

// reader reads an object until its context ends.
type reader struct {
	body   io.ReadCloser
	remote *Remote
	name   string
	ctx    context.Context
}

func (o *reader) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, o.remote.explain("read", o.name, err)
	}
	n, err := o.body.Read(p)
	if err != nil && err != io.EOF {
		if o.ctx.Err() != nil {
			err = o.ctx.Err()
		}
		err = o.remote.explain("read", o.name, err)
	}
	return n, err
}

// Close ends the reading, early too.
func (o *reader) Close() error { return o.body.Close() }
