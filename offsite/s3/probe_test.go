package s3

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// bucketService is a bucket without versions in memory. It refuses to the key what
// it is told to.
type bucketService struct {
	mu      sync.Mutex
	objects map[string][]byte
	refused map[string]bool // methods
	ignores bool            // conditions of puts
	lacks   bool            // conditional puts
}

func (b *bucketService) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := strings.TrimPrefix(req.URL.Path, "/vault/")
	data, there := b.objects[name]
	sum := md5.Sum(data)
	answer := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>No.</Message></Error>", code)
	}
	conditional := req.Header.Get("If-None-Match") != ""
	switch {
	case name == "" && req.URL.Query().Has("versioning"):
		fmt.Fprint(w, "<VersioningConfiguration/>")
	case name == "" && req.URL.Query().Has("list-type"):
		fmt.Fprint(w, "<ListBucketResult/>")
	case name == "":
		answer(http.StatusNotImplemented, "NotImplemented")
	case b.refused[req.Method]:
		answer(http.StatusForbidden, "AccessDenied")
	case req.Method == http.MethodPut && conditional && b.lacks:
		answer(http.StatusNotImplemented, "NotImplemented")
	case req.Method == http.MethodPut && conditional && there && !b.ignores:
		answer(http.StatusPreconditionFailed, "PreconditionFailed")
	case req.Method == http.MethodPut:
		b.objects[name], _ = io.ReadAll(req.Body)
		sum = md5.Sum(b.objects[name])
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	case req.Method == http.MethodDelete:
		delete(b.objects, name)
		w.WriteHeader(http.StatusNoContent)
	case !there:
		answer(http.StatusNotFound, "NoSuchKey")
	default:
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
		w.Header().Set("Last-Modified", "Tue, 07 Apr 2026 06:00:00 GMT")
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data)
	}
}

// TestProbe tries keys of several rights, twice each, and looks at what stays.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name        string
		service     *bucketService
		conditional bool
		kept        bool
		fails       string
	}{
		{"a key that may all", &bucketService{}, true, false, ""},
		{"a key that cannot delete", &bucketService{refused: map[string]bool{"DELETE": true}}, true, true, ""},
		{"that, and conditions are ignored",
			&bucketService{refused: map[string]bool{"DELETE": true}, ignores: true}, false, true, ""},
		{"that, and conditions are lacking",
			&bucketService{refused: map[string]bool{"DELETE": true}, lacks: true}, false, true, ""},
		{"conditions are lacking", &bucketService{lacks: true}, false, false, ""},
		{"a key that cannot store", &bucketService{refused: map[string]bool{"PUT": true}}, false, false, "probe"},
		{"a key that cannot store where a probe stayed", &bucketService{
			refused: map[string]bool{"PUT": true, "DELETE": true},
			objects: map[string][]byte{probeName: []byte(probeText)},
		}, false, false, "probe"},
		{"another's probe", &bucketService{
			refused: map[string]bool{"DELETE": true}, objects: map[string][]byte{probeName: []byte("mine now")},
		}, false, false, "other bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			if c.service.objects == nil {
				c.service.objects = map[string][]byte{}
			}
			server := httptest.NewServer(c.service)
			defer server.Close()
			for _, round := range []string{"first", "second"} {
				r, err := Open(ctx, Config{Name: "bucket", Endpoint: server.URL, Bucket: "vault",
					CredentialsFile: keyFile(t, filepath.Join(t.TempDir(), "keys"), keyText, 0o600)})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				kept, err := r.TryStore(ctx)
				if c.fails != "" {
					if err == nil || !strings.Contains(err.Error(), c.fails) {
						t.Fatalf("%s: %v", round, err)
					}
					continue
				}
				if err != nil || (kept != nil) != c.kept || r.state.Conditional != c.conditional {
					t.Fatalf("%s: kept %v, conditional %v: %v", round, kept, r.state.Conditional, err)
				}
				if c.kept && failure.KindOf(kept) != failure.Auth {
					t.Errorf("%s: %v", round, kept)
				}
				r.state.Asked = false // a put finds out by itself
				_, err = r.Put(ctx, "packs/"+round, strings.NewReader("data"))
				if err = cmp.Or(err, r.Close()); err != nil || r.state.Conditional != c.conditional {
					t.Errorf("%s: conditional %v: %v", round, r.state.Conditional, err)
				}
			}
			_, stayed := c.service.objects[probeName]
			want := 2 // packs
			if c.kept {
				want++
			}
			if c.fails == "" && (stayed != c.kept || len(c.service.objects) != want) {
				t.Errorf("%d objects, the probe among them: %v", len(c.service.objects), stayed)
			}
		})
	}
}
