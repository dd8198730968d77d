package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest: whatever is asked, the answer is none of a broken server; only a program
// on this machine that posts JSON to /admin/backup has a snapshot taken; and what was
// asked appears in no page as markup.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{"/", "/snapshots/20260407T060000Z", "/snapshots/<script>", "/runs", "/drills", "/icon/ok",
		"/badge.svg", "/assets/../x", "/admin/backup", "/admin/backup/20260407T060000Z/validate", "/api/status",
		"/healthz", "/metrics", "//evil", "/admin/./backup"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			f.Add(method, path, "kind=daily&page=-1", "127.0.0.1:8120", "", "application/json", `{"include_chroma": true}`)
		}
		f.Add("POST", path, "%", "evil.example.com", "null", "text/plain", "{")
	}
	st := smallState()
	taken := 0
	handler := New(&fakeSource{state: st, backup: func(context.Context, bool) (any, error) {
		taken++
		return map[string]any{}, nil
	}}, Options{}).Handler()
	f.Fuzz(func(t *testing.T, method, path, query, host, origin, mediaType, body string) {
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL, r.Host = method, &url.URL{Path: path, RawQuery: query}, host
		r.RemoteAddr = "127.0.0.1:50123"
		r.Header = http.Header{"Content-Type": {mediaType}, "Accept": {"text/html"}}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		taken = 0
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code < 200 || w.Code >= 500 {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		if w.Header().Get("Content-Security-Policy") == "" {
			t.Error("no Content-Security-Policy")
		}
		if taken > 0 && (method != http.MethodPost || path != "/admin/backup" || !isLoopbackName(hostOf(host)) ||
			!strings.HasPrefix(strings.ToLower(strings.TrimSpace(mediaType)), "application/json")) {
			t.Error("a snapshot was taken")
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			for _, asked := range []string{path, query, host, origin} {
				if at := strings.IndexByte(asked, '<'); at >= 0 && len(asked[at:]) > 12 &&
					strings.Contains(w.Body.String(), asked[at:]) {
					t.Errorf("%q stands in the page as it is", asked[at:])
				}
			}
		}
	})
}
