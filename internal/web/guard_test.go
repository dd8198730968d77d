package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/snapshot"
)

// TestWhoMayWrite is the table of who may take a snapshot.
func TestWhoMayWrite(t *testing.T) {
	tokenFile := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(tokenFile, []byte("s3cret-and-long\n"), 0o600))
	const loopback, lan = "127.0.0.1:50123", "192.168.1.20:50123"
	for _, c := range []struct {
		name       string
		peer, host string
		header     string // one more, as "Name: value"
		status     int    // where no token is configured
		withToken  int    // where one is
	}{
		{"a program here", loopback, "127.0.0.1:8120", "", 200, 200},
		{"by name", loopback, "localhost:8120", "", 200, 200},
		{"without a port", loopback, "localhost", "", 200, 200},
		{"over IPv6", "[::1]:50123", "[::1]:8120", "", 200, 200},
		{"an IPv4 peer on an IPv6 socket", "[::ffff:127.0.0.1]:50123", "127.0.0.1:8120", "", 200, 200},
		{"a page served from here", loopback, "localhost:8120", "Origin: http://localhost:8120", 200, 200},
		{"a page of another port here", loopback, "localhost:8120", "Origin: http://localhost:3000", 403, 403},
		{"a page of another name here", loopback, "localhost:8120", "Origin: http://127.0.0.1:8120", 403, 403},
		{"without a content type", loopback, "127.0.0.1:8120", "Content-Type: ", 415, 415},
		{"a rebound name", loopback, "evil.example", "", 403, 401},
		{"a rebound name with a port", loopback, "evil.example:8120", "Origin: http://evil.example:8120", 403, 401},
		{"a name that begins like ours", loopback, "localhost.evil.example:8120", "", 403, 401},
		{"an address that begins like ours", loopback, "127.0.0.1.evil.example", "", 403, 401},
		{"no host", loopback, "", "", 403, 401},
		{"a page from elsewhere", loopback, "127.0.0.1:8120", "Origin: https://evil.example", 403, 403},
		{"a page that hides where it is from", loopback, "127.0.0.1:8120", "Origin: null", 403, 403},
		{"an origin that looks like ours", loopback, "127.0.0.1:8120", "Origin: http://localhost@evil.example", 403,
			403},
		{"a browser that says cross-site", loopback, "127.0.0.1:8120", "Sec-Fetch-Site: cross-site", 403, 401},
		{"through a proxy here", loopback, "127.0.0.1:8120", "X-Forwarded-For: 203.0.113.9", 403, 401},
		{"through another one", loopback, "localhost", "Forwarded: for=203.0.113.9", 403, 401},
		{"from another machine", lan, "192.168.1.5:8120", "", 403, 401},
		{"that claims to be here", lan, "127.0.0.1:8120", "", 403, 401},
		{"a wrong token", loopback, "127.0.0.1:8120", "Authorization: Bearer wrong", 403, 401},
		{"an empty token", lan, "dalidou:8120", "Authorization: Bearer ", 403, 401},
		{"another scheme", lan, "dalidou:8120", "Authorization: Basic s3cret-and-long", 403, 401},
		{"half a token", lan, "dalidou:8120", "Authorization: Bearer s3cret-and", 403, 401},
		{"the token", lan, "dalidou:8120", "Authorization: Bearer s3cret-and-long", 403, 200},
		{"the token, scheme in small letters", lan, "dalidou:8120", "Authorization: bearer s3cret-and-long", 403, 200},
		{"the token through a proxy", loopback, "backup.example.org", "Authorization: Bearer s3cret-and-long", 403,
			200},
		{"a form", loopback, "127.0.0.1:8120", "Content-Type: application/x-www-form-urlencoded", 415, 415},
		{"plain text", loopback, "127.0.0.1:8120", "Content-Type: text/plain", 415, 415},
		{"JSON with a charset", loopback, "127.0.0.1:8120", "Content-Type: application/json; charset=utf-8", 200, 200},
	} {
		for file, want := range map[string]int{"": c.status, tokenFile: c.withToken} {
			taken := false
			source := &fakeSource{state: smallState(),
				backup: func(context.Context, bool) (any, error) { taken = true; return nil, nil }}
			r := fromHere("POST", "/admin/backup", "{}")
			r.RemoteAddr, r.Host = c.peer, c.host
			if name, value, ok := strings.Cut(c.header, ": "); ok {
				r.Header.Set(name, value)
			}
			w := serve(source, Options{TokenFile: func() string { return file }}, r)
			if w.Code != want || taken != (want == 200) {
				t.Errorf("%s (token configured: %v): status %d, want %d; taken: %v", c.name, file != "", w.Code, want,
					taken)
			}
			if w.Code == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: it does not ask for a token", c.name)
			}
			if w.Code != 200 && !isErrorDocument(w) {
				t.Errorf("%s: no error document: %s", c.name, w.Body)
			}
			if strings.Contains(w.Body.String(), "s3cret") {
				t.Errorf("%s: the answer holds the token", c.name)
			}
		}
	}
}

// A page from elsewhere cannot have a snapshot read again; a person, a program and a page
// of ours can.
func TestCrossSiteValidate(t *testing.T) {
	for header, want := range map[string]int{
		"":                             200,
		"Origin: http://localhost":     200,
		"Sec-Fetch-Site: none":         200,
		"Sec-Fetch-Site: same-origin":  200,
		"Sec-Fetch-Site: cross-site":   403,
		"Origin: https://evil.example": 403,
		"Origin: null":                 403,
	} {
		asked := false
		source := &fakeSource{
			state: smallState(),
			validate: func(context.Context, snapshot.Stamp) (snapshot.Result, error) {
				asked = true
				return snapshot.Result{Exists: true}, nil
			},
		}
		r := fromHere("GET", "/admin/backup/20260407T060000Z/validate", "")
		r.Host = "localhost"
		if name, value, ok := strings.Cut(header, ": "); ok {
			r.Header.Set(name, value)
		}
		if w := serve(source, Options{}, r); w.Code != want || asked != (want == 200) {
			t.Errorf("%q: status %d, want %d; read: %v", header, w.Code, want, asked)
		}
	}
}

// TestTwoTokensAreNone because of two headers a proxy may check another one.
func TestTwoTokensAreNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte(anyToken), 0o600))
	r := fromHere("POST", "/admin/backup", "{}")
	r.Header["Authorization"] = []string{"Bearer " + anyToken, "Bearer wrong"}
	if w := serve(&fakeSource{state: smallState()}, Options{TokenFile: func() string { return file }},
		r); w.Code != 401 {
		t.Errorf("status %d", w.Code)
	}
}

// TestTokenIsReadAgain changes the file under a running server.
func TestTokenIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	var logged []error
	server := New(&fakeSource{state: smallState()},
		Options{TokenFile: func() string { return file }, Report: func(err error) { logged = append(logged, err) }})
	ask := func(token string) int {
		r := fromHere("POST", "/admin/backup", "{}")
		r.RemoteAddr = "192.168.1.20:50123"
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r)
		return w.Code
	}
	if code := ask("first"); code != 500 || len(logged) != 1 {
		t.Errorf("no file: status %d, %d logged", code, len(logged))
	}
	must(t, os.WriteFile(file, []byte(" \n"), 0o600))
	if code := ask(""); code != 500 {
		t.Errorf("an empty file: status %d", code)
	}
	must(t, os.WriteFile(file, []byte(strings.Repeat("x", maxToken+1)), 0o600))
	if code := ask(strings.Repeat("x", maxToken+1)); code != 500 {
		t.Errorf("a file that is no token: status %d", code)
	}
	must(t, os.WriteFile(file, []byte("first\n"), 0o600))
	if first, second := ask("first"), ask("second"); first != 200 || second != 401 {
		t.Errorf("the first token: status %d, the second: %d", first, second)
	}
	must(t, os.WriteFile(file, []byte("second"), 0o600))
	if first, second := ask("first"), ask("second"); first != 401 || second != 200 {
		t.Errorf("after the change, the first token: status %d, the second: %d", first, second)
	}
}

// TestWhoMayRead keeps pages of strangers from reading along.
func TestWhoMayRead(t *testing.T) {
	for host, status := range map[string]int{
		"127.0.0.1:8120": 200, "localhost:8120": 200, "[::1]:8120": 200, "192.168.1.5:8120": 200, "dalidou:8120": 200,
		"dalidou": 200, "dalidou.local:8120": 200,
		"dalidou.tail1234.ts.net": 200, "DALIDOU.lan.": 200,
		"evil.example": 403, "evil.example:8120": 403, "127.0.0.1.evil.example": 403, "local.evil.example": 403,
		"notlocal": 200, "evil-local.com": 403,
	} {
		for _, path := range []string{"/", "/admin/backup", "/api/status", "/metrics"} {
			r := fromHere(http.MethodGet, path, "")
			r.Host = host
			if w := serve(&fakeSource{state: smallState()}, Options{}, r); w.Code != status {
				t.Errorf("%s of %s: status %d, want %d", path, host, w.Code, status)
			}
		}
	}
}

// TestRequireToken asks programs on this machine for the token too.
func TestRequireToken(t *testing.T) {
	tokenFile := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(tokenFile, []byte("s3cret\n"), 0o600))
	for header, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer s3cret": 200} {
		source := &fakeSource{state: smallState(), backup: func(context.Context, bool) (any, error) { return nil, nil }}
		r := fromHere("POST", "/admin/backup", "{}")
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		o := Options{TokenFile: func() string { return tokenFile }, RequireToken: func() bool { return true }}
		if w := serve(source, o, r); w.Code != want {
			t.Errorf("%q: status %d, want %d", header, w.Code, want)
		}
	}
}

// TestWritesAreLimited because each snapshot takes space and a place.
func TestWritesAreLimited(t *testing.T) {
	taken := 0
	source := &fakeSource{state: smallState(),
		backup: func(context.Context, bool) (any, error) { taken++; return nil, nil }}
	handler := New(source, Options{}).Handler()
	for range writeBurst { // what takes no snapshot has no place among them
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, fromHere("POST", "/admin/backup", "no JSON"))
		if w.Code != 400 {
			t.Errorf("a bad body: %d", w.Code)
		}
	}
	for n := range 3 * writeBurst {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, fromHere("POST", "/admin/backup", "{}"))
		if want := map[bool]int{true: 200, false: 429}[n < writeBurst]; w.Code != want {
			t.Errorf("request %d: status %d, want %d", n, w.Code, want)
		}
	}
	if taken != writeBurst {
		t.Errorf("%d were taken", taken)
	}
	w := httptest.NewRecorder()
	if handler.ServeHTTP(w, fromHere("GET", "/admin/backup", "")); w.Code != 200 {
		t.Errorf("readers are limited too: %d", w.Code)
	}
}
