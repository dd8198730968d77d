//go:build rig

package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atocore/atobackupd/internal/provetest"
)

// TestRigKilledAtEveryRequest ends a put, a move and a removal before and after
// each request that they make: the name has the whole object or nothing, the move
// has one of its two names, and doing it once more succeeds.
func TestRigKilledAtEveryRequest(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := start(t, kind)
			cfg := s.config(t, s.bucket(t, "versions"))
			plain := connect(t, cfg)
			steps := map[string]func(context.Context, *Remote, string) error{
				"put": func(ctx context.Context, r *Remote, n string) error {
					_, err := r.Put(ctx, "packs/"+n, strings.NewReader("data"))
					return err
				},
				"move": func(ctx context.Context, r *Remote, n string) error {
					return r.Move(ctx, "packs/"+n, "trash/"+n)
				},
				"remove": func(ctx context.Context, r *Remote, n string) error { return r.Remove(ctx, "packs/"+n) },
			}
			for step, do := range steps {
				for _, after := range []bool{false, true} {
					for at := int64(1); ; at++ {
						name := fmt.Sprintf("%s-%v-%d", step, after, at)
						if step != "put" {
							store(t, plain, "packs/"+name, "data")
						}
						killed := killAt(
							t, s, cfg, at, after, func(ctx context.Context, r *Remote) { _ = do(ctx, r, name) },
						)
						look := connect(t, cfg)
						whole(t, look, step, name)
						if err := do(context.Background(), look, name); err != nil && !errors.Is(err, fs.ErrExist) &&
							!errors.Is(err, fs.ErrNotExist) {
							t.Errorf("%s once more: %v", name, err)
						}
						if step == "put" && load(t, look, "packs/"+name) != "data" {
							t.Errorf("%s: not stored", name)
						}
						if !killed {
							t.Logf("%s %s: %d requests", kind, step, at-1)
							provetest.Points(t, int(at-1))
							break
						}
					}
				}
			}
		})
	}
}

// whole fails where an object is neither whole nor gone.
func whole(t *testing.T, r *Remote, step, name string) {
	t.Helper()
	there := 0
	for _, path := range []string{"packs/" + name, "trash/" + name} {
		if e, err := r.Stat(context.Background(), path); err == nil {
			there++
			if e.Size != 4 {
				t.Errorf("%s has %d bytes", path, e.Size)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if step == "move" && there == 0 {
		t.Errorf("%s is in neither place", name)
	}
}

// killAt runs work and ends it before, or after, its n-th request. It reports
// whether there was one.
func killAt(t *testing.T, s *server, cfg Config, n int64, after bool, work func(context.Context, *Remote)) bool {
	t.Helper()
	target, err := url.Parse(s.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var count atomic.Int64
	relay := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host
		p.Out = p.Out.WithContext(context.Background()) // it is on its way
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch at := count.Add(1); {
		case at < n:
			relay.ServeHTTP(w, req)
		case at == n && after:
			relay.ServeHTTP(httptest.NewRecorder(), req)
			fallthrough
		default:
			cancel()
			panic(http.ErrAbortHandler)
		}
	}))
	defer front.Close()
	cfg.Endpoint, cfg.StateFile = front.URL, ""
	r, err := Open(ctx, cfg)
	if err != nil {
		return true
	}
	work(ctx, r)
	r.Close()
	return ctx.Err() != nil
}
