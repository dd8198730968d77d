package web

import (
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// handlerFunc answers one request or says why not.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// route is one path and what each method does there. Name stands for it in the
// metrics, where a path with a stamp in it would be a new series each day.
type route struct {
	pattern, name string
	get, post     handlerFunc
}

func (s *Server) routes() http.Handler {
	metrics := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
	mux := http.NewServeMux()
	for _, r := range []route{
		{pattern: "/{$}", name: "dashboard", get: s.dashboard},
		{pattern: "/snapshots/{stamp}", name: "snapshot", get: s.snapshotPage},
		{pattern: "/runs", name: "runs", get: s.runsPage},
		{pattern: "/drills", name: "drills", get: s.drillsPage},
		{pattern: "/badge.svg", name: "badge", get: s.badge},
		{pattern: "/icon/{level}", name: "icon", get: icon},
		{pattern: "/assets/{name}", name: "assets", get: serveAsset},
		{pattern: "/admin/backup", name: "backup", get: s.listBackups, post: s.takeBackup},
		{pattern: "/admin/backup/{stamp}/validate", name: "validate", get: s.validateBackup},
		{pattern: "/api/status", name: "status", get: s.status},
		{pattern: "/healthz", name: "healthz", get: healthz},
		{pattern: "/metrics", name: "metrics",
			get: func(w http.ResponseWriter, r *http.Request) error { metrics.ServeHTTP(w, r); return nil }},
		{pattern: "/", name: "unknown", get: notFound, post: notFound},
	} {
		mux.Handle(r.pattern, s.endpoint(r))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		// The mux would redirect an unclean path; nobody links to one, and what it
		// was cleaned to is not what was asked.
		if !strings.HasPrefix(r.URL.Path, "/") || path.Clean(r.URL.Path) != r.URL.Path {
			s.fail(w, r, notFound(w, r))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// endpoint guards a route, picks the method, and answers with its error.
func (s *Server) endpoint(to route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded := &recorder{ResponseWriter: w, status: http.StatusOK}
		if err := s.dispatch(to, recorded, r); err != nil {
			s.fail(recorded, r, err)
		}
		s.requests.WithLabelValues(to.name, strconv.Itoa(recorded.status)).Inc()
	})
}

func (s *Server) dispatch(to route, w http.ResponseWriter, r *http.Request) error {
	handle, guard := handlerFunc(nil), s.mayRead
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		handle = to.get
	case http.MethodPost:
		handle, guard = to.post, s.mayWrite
	}
	if handle == nil {
		allowed := "GET, HEAD"
		if to.post != nil {
			allowed += ", POST"
		}
		w.Header().Set("Allow", allowed)
		return refuse(http.StatusMethodNotAllowed, "%s is not allowed here, only %s", r.Method, allowed)
	}
	if err := guard(w, r); err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return handle(w, r)
}

func notFound(_ http.ResponseWriter, r *http.Request) error {
	return refuse(http.StatusNotFound, "there is nothing at %s", r.URL.Path)
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status  int
	written bool
}

func (r *recorder) WriteHeader(status int) {
	if !r.written {
		r.status, r.written = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(data []byte) (int, error) {
	r.written = true
	return r.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// setHeaders says what browsers may do with any answer: nothing that it does
// not bring along itself.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
