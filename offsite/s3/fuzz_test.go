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

// answer is a service that answers every request with the same body.
type answer string

func (a answer) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(string(a))),
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
	f.Fuzz(func(t *testing.T, body string, versions bool) {
		cfg, err := Config{Name: "b", Endpoint: "http://127.0.0.1:1", Bucket: "bucket",
			CredentialsFile: keys}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		// A truncated answer is asked for more, which is the same answer: ended by names
		// that repeat, or by the time.
		body = strings.ReplaceAll(body, "<IsTruncated>true", "<IsTruncated>false")
		cfg.StateFile = filepath.Join(t.TempDir(), "s3.json")
		s := loadState(cfg)
		s.Checked, s.Versions, s.Asked = time.Now(), versions, true
		if err := s.save(); err != nil {
			t.Fatal(err)
		}
		transport := newTransport(cfg)
		r, err := open(t.Context(), cfg, transport, answer(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
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
