package daemon

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/snapshot"
)

// s3Error is how an S3 service says that something is wrong.
func s3Error(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>%s</Code><Message>%s</Message></Error>`, code, code)
	}
}

// The states of a bucket whose service does not do what it should: a real HTTP server
// that answers so, asked of every mouth. Time is real, as in TestTruthOfServers.
func TestTruthOfBuckets(t *testing.T) {
	t.Parallel() // it waits, mostly
	var answer atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer.Load().(http.HandlerFunc)(w, r)
	}))
	defer server.Close()
	w := &world{house: newHouse(t, fmt.Sprintf(`
[[offsite]]
name = "cloud"
type = "s3"
endpoint = %q
bucket = "vault"
connect_timeout = "1s"
credentials_file = "CREDENTIALS"
`, server.URL))}
	w.write("credentials", "[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
	text := strings.ReplaceAll(w.readFile("config.toml"), "CREDENTIALS", w.path("credentials"))
	w.rewrite(w.path("config.toml"), text)
	answer.Store(s3Error(http.StatusInternalServerError, "InternalError"))
	w.wake()
	defer func() { w.t = t; w.sleepDaemon() }()
	w.app.Options.TargetSilence = 500 * time.Millisecond
	cloud := w.app.Config.Offsite[1]
	w.configure(func(c *config.Config) { c.Offsite = c.Offsite[:1] })
	w.take(snapshot.Daily)
	w.ship()
	w.prune()
	w.sink.take()
	for _, s := range []struct {
		name, text string
		answer     http.HandlerFunc
		endpoint   string // "" for the server that is there
		late       bool   // it is an alarm only when its limit has passed
	}{
		{"it answers 500", "InternalError", s3Error(http.StatusInternalServerError, "InternalError"), "", true},
		{"it answers 500 in HTML", "500", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "<html><h1>It works not</h1></html>")
		}, "", true},
		{"it is busy", "SlowDown", s3Error(http.StatusServiceUnavailable, "SlowDown"), "", true},
		{"it hangs up", "cloud", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", true},
		{"it takes requests and never answers", "timeout",
			func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "", true},
		{"nobody listens", "refused", nil, "http://127.0.0.1:1", true},
		{"it refuses the key", "credentials_file", s3Error(http.StatusForbidden, "InvalidAccessKeyId"), "", false},
		{"it refuses all", "docs/s3.md", s3Error(http.StatusForbidden, "AccessDenied"), "", false},
		{"it has no such bucket", "make the bucket vault", s3Error(http.StatusNotFound, "NoSuchBucket"), "", false},
	} {
		t.Run(s.name, func(t *testing.T) {
			w.t = t
			w.d.alarmLoop.sent = nil // the bound on messages is another test's
			if s.answer != nil {
				answer.Store(s.answer)
			}
			bad := cloud
			bad.MaxAge = config.Limit(100 * day)
			if s.endpoint != "" {
				bad.Endpoint = s.endpoint
			}
			w.configure(func(c *config.Config) { c.Offsite = append(c.Offsite[:1:1], bad) })
			w.take(snapshot.Daily)
			w.mustFail(w.tryShip())
			if s.late {
				w.check("before its limit", "warning offsite:cloud", s.text)
				if told := w.look(); len(told) != 0 {
					t.Errorf("before its limit people are told %q", told)
				}
				w.configure(func(c *config.Config) { c.Offsite[1].MaxAge = config.Limit(time.Second) })
				w.pass(2 * time.Second)
				w.take(snapshot.Daily)
				w.mustFail(w.tryShip())
			}
			w.check("while it holds", "critical offsite:cloud", s.text)
			if told := w.look(); len(told) != 1 {
				t.Errorf("people are told %q", told)
			}
			w.configure(func(c *config.Config) { c.Offsite = c.Offsite[:1] })
			w.ship()
			if told := w.look(); len(told) != 1 {
				t.Errorf("after its end people are told %q", told)
			}
		})
	}
}
