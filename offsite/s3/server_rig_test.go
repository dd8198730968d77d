//go:build rig

package s3

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// server is a real S3 server that runs while the tests of this package do.
type server struct {
	dir, endpoint string
	admin         *minio.Client
}

var (
	serversMu sync.Mutex
	servers   = map[string]*server{}
)

func TestMain(m *testing.M) {
	status := m.Run()
	for _, s := range servers {
		_ = exec.Command(filepath.Join(rig(), "s3-down.sh"), s.dir).Run()
		os.RemoveAll(s.dir)
	}
	os.Exit(status)
}

func rig() string { return filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig") }

// binaries is where the built servers are kept between runs.
func binaries(t *testing.T) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return cmp.Or(os.Getenv("S3_BIN"), filepath.Join(cache, "atobackupd-rig", "s3"))
}

// start starts a server of the given kind, or returns the one that runs.
func start(t *testing.T, kind string) *server {
	t.Helper()
	serversMu.Lock()
	defer serversMu.Unlock()
	if s := servers[kind]; s != nil {
		return s
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir, err := os.MkdirTemp("", "atobackupd-"+kind+"-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(rig(), "s3-up.sh"), dir, fmt.Sprint(port), kind)
	cmd.Env = append(os.Environ(), "S3_BIN="+binaries(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("s3-up.sh %s: %v\n%s", kind, err, out)
	}
	s := &server{dir: dir, endpoint: fmt.Sprintf("http://127.0.0.1:%d", port)}
	servers[kind] = s
	if s.admin, err = minio.New(strings.TrimPrefix(s.endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4("user", "secret12345", ""), Region: "us-east-1"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// bucket makes a bucket: with "lock" with versions and Object Lock, with
// "versions" with those alone, with "plain" with neither.
func (s *server) bucket(t *testing.T, kind string) string {
	t.Helper()
	ctx := context.Background()
	name := "b-" + strings.ToLower(rand.Text()[:12])
	if err := s.admin.MakeBucket(
		ctx, name, minio.MakeBucketOptions{Region: "us-east-1", ObjectLocking: kind == "lock"},
	); err != nil {
		t.Fatal(err)
	}
	if kind == "versions" {
		if err := s.admin.EnableVersioning(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// config returns what reaches a fresh prefix of a bucket.
func (s *server) config(t *testing.T, bucket string) Config {
	return Config{
		Name: "bucket", Endpoint: s.endpoint, Bucket: bucket, Prefix: "p/" + strings.ToLower(rand.Text()[:12]),
		CredentialsFile: filepath.Join(s.dir, "credentials"), StateFile: filepath.Join(t.TempDir(), "s3.json"),
	}
}

// connect opens a Remote until the test ends.
func connect(t *testing.T, cfg Config) *Remote {
	t.Helper()
	r, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// proxy relays requests to a server, and lets each be answered in its stead.
func (s *server) proxy(t *testing.T, answer func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	target, err := url.Parse(s.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	relay := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host // it is signed
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !answer(w, req) {
			relay.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// refuse answers a request as S3 services do.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(
		w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code,
		message,
	)
}

// likeB2 answers as Backblaze B2 does: no conditional put, no checksum headers.
func likeB2(w http.ResponseWriter, req *http.Request) bool {
	if req.Method == http.MethodPut && req.Header.Get("If-None-Match") != "" {
		refuse(
			w, http.StatusNotImplemented, "NotImplemented",
			"A header you provided implies functionality that is not implemented.",
		)
		return true
	}
	for name := range req.Header {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-checksum-") ||
			strings.EqualFold(name, "x-amz-sdk-checksum-algorithm") {
			refuse(
				w, http.StatusBadRequest, "InvalidArgument",
				"Unsupported header '"+name+"' received for this API call.",
			)
			return true
		}
	}
	return false
}
