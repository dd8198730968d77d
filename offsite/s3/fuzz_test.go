package s3

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/offsite"
)

// answers is a service that answers its first requests with the same body, so that
// a listing may say that there is more, and the later ones with an empty listing.
type answers struct {
	body string
	left int
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	body := a.body
	if a.left--; a.left < 0 {
		body = "<ListVersionsResult/>"
	}
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

// FuzzListing: whatever a service answers, a listing is an error or names entries
// of the directory, and ends.
func FuzzListing(f *testing.F) {
	dir := f.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"),
		0o600); err != nil {
		f.Fatal(err)
	}
	const head = `<?xml version="1.0"?><ListVersionsResult><IsTruncated>false</IsTruncated>`
	for _, body := range []string{
		head + `<Version><Key>packs/a.age</Key><VersionId>1</VersionId><IsLatest>true</IsLatest>` +
			`<LastModified>2026-04-07T06:00:00Z</LastModified><ETag>"e"</ETag><Size>5</Size>` +
			`</Version></ListVersionsResult>`,
		head + `<DeleteMarker><Key>packs/../../x</Key><IsLatest>true</IsLatest></DeleteMarker></ListVersionsResult>`,
		`<ListBucketResult><IsTruncated>true</IsTruncated>` +
			`<Contents><Key>packs/a</Key><Size>-1</Size></Contents></ListBucketResult>`,
		`<Error><Code>AccessDenied</Code></Error>`, "", "<", `<a>&#0;</a>`,
	} {
		f.Add(body, true)
		f.Add(body, false)
	}
	cfg, err := Config{Name: "b", Endpoint: "http://127.0.0.1:1", Bucket: "bucket", CredentialsFile: keys,
		StateFile: filepath.Join(dir, "s3.json")}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	service, known := &answers{}, loadState(cfg)
	known.Checked, known.Asked = time.Now(), true
	if err := known.save(); err != nil {
		f.Fatal(err)
	}
	r, err := open(f.Context(), cfg, newTransport(cfg), service)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { r.Close() })
	f.Fuzz(func(t *testing.T, body string, versions bool) {
		service.body, service.left, r.state.Versions = body, 3, versions
		list, err := r.List(t.Context(), "packs")
		if err != nil {
			return
		}
		for _, e := range list {
			if !offsite.ValidName(e.Name) || e.Name == "." || strings.Contains(e.Name, "/") || e.Size < 0 {
				t.Errorf("%q of %d bytes is listed", e.Name, e.Size)
			}
		}
	})
}

// FuzzParseURL: whatever is taken for the address of a bucket passes its checks, and a
// key that somebody wrote into it is said by no error.
func FuzzParseURL(f *testing.F) {
	for _, rest := range []string{"host/bucket", "host:9000/bucket/a/b?region=eu", "[::1]/bucket", "/bucket", "host/b",
		"host/bucket/../x", "host/bucket?region=a&x=1", "host/bucket#x", "%zz/bucket", "host:port/bucket", "a@b@host/bucket"} {
		f.Add("s3+https", rest)
		f.Add("s3+http", rest)
		f.Add("https", rest)
	}
	const secret = "wJalrXUtnFEMI"
	f.Fuzz(func(t *testing.T, scheme, rest string) {
		if c, err := ParseURL(scheme + "://" + rest); err == nil && c.check() != nil {
			t.Errorf("%+v: %v", c, c.check())
		}
		c, err := ParseURL(scheme + "://key:" + secret + "@" + rest)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%+v, %v", c, err)
		}
	})
}
