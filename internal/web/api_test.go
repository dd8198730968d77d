package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot"
)

var update = flag.Bool("update", false, "write the golden files anew")

// smallState has one snapshot of ours, one of AtoCore's own, and one without
// metadata.
func smallState() *State {
	yes := true
	dir := "/backups/snapshots/"
	return &State{
		Now: sceneNow, Host: "dalidou", Version: "1.0.0", BackupDir: "/backups", FreeBytes: 1 << 40,
		Status: health.Status{
			Report: health.Report{Level: health.LevelOK,
				Legs:       []health.Leg{{Name: "snapshot", Level: health.LevelOK, Watched: true}},
				Conditions: []health.Condition{}},
			Daemon: health.DaemonStatus{State: health.DaemonRunning}, Running: []health.RunningStatus{},
			Targets: []health.TargetStatus{}, Alarms: []health.Alarm{},
		},
		Snapshots: []snapshot.Snapshot{
			{Stamp: "20260405T050000Z", Path: dir + "20260405T050000Z", Kind: snapshot.Weekly, Full: true, Valid: &yes,
				Pinned: true, Bytes: 2048, BytesExclusive: 1024, CreatedAt: at(2026, 4, 5, 5),
				RawMetadata: json.RawMessage(`{"created_at":"2026-04-05T05:00:00Z","backup_root":"/backups/snapshots/20260405T050000Z","db_size_bytes":2000,"vector_store_note":"kept <as> it is"}`)},
			{Stamp: "20260406T121500Z", Path: dir + "20260406T121500Z", Kind: snapshot.Adopted, Bytes: 100,
				BytesExclusive: 100, CreatedAt: at(2026, 4, 6, 12)},
			{Stamp: "20260407T060000Z", Path: dir + "20260407T060000Z", Kind: snapshot.Daily, Valid: &yes, Bytes: 1500,
				BytesExclusive: 1500, CreatedAt: at(2026, 4, 7, 6),
				RawMetadata: json.RawMessage(`{"backup_root": "/backups/snapshots/20260407T060000Z"}`)},
		},
		Targets:  []Target{{Name: "laptop", Stamps: []snapshot.Stamp{"20260405T050000Z"}}},
		Warnings: []string{"/backups/snapshots/tmp is not a snapshot: it does not belong there"},
	}
}

// fromHere is a request of a program on this machine.
func fromHere(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "127.0.0.1:8120", "127.0.0.1:50123"
	if method == "POST" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func serve(source Source, o Options, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	New(source, o).Handler().ServeHTTP(w, r)
	return w
}

// golden compares an answer with the file that holds what it should be.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("it is not %s:\n%s", path, got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"list.json", "GET", "/admin/backup", "", 200},
		{"validate.json", "GET", "/admin/backup/20260407T060000Z/validate", "", 200},
		{"validate-none.json", "GET", "/admin/backup/20200101T000000Z/validate", "", 404},
		{"validate-malformed.json", "GET", "/admin/backup/yesterday/validate", "", 400},
		{"status.json", "GET", "/api/status", "", 200},
		{"healthz.json", "GET", "/healthz", "", 200},
		{"take.json", "POST", "/admin/backup", `{"include_chroma": true}`, 200},
		{"take-unknown-key.json", "POST", "/admin/backup", `{"include_chrome": true}`, 400},
		{"not-found.json", "GET", "/admin", "", 404},
		{"not-allowed.json", "DELETE", "/admin/backup", "", 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := serve(&fakeSource{state: smallState()}, Options{}, fromHere(c.method, c.path, c.body))
			if w.Code != c.status || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("status %d, type %q", w.Code, w.Header().Get("Content-Type"))
			}
			golden(t, c.name, w.Body.Bytes())
		})
	}
}

// TestBodiesOfTake tries what a body may and may not be.
func TestBodiesOfTake(t *testing.T) {
	for _, c := range []struct {
		body   string
		status int
		chroma bool
	}{
		{"", 200, false},
		{"{}", 200, false},
		{" {} \n", 200, false},
		{`{"include_chroma": false}`, 200, false},
		{`{"include_chroma": true}`, 200, true},
		{`{"include_chroma": "true"}`, 400, false},
		{`{"include_chroma": 1}`, 400, false},
		{`{"include_chroma": true}{}`, 400, false},
		{`{"Include_Chroma": true}`, 400, false},
		{`[true]`, 400, false},
		{`true`, 400, false},
		{`{`, 400, false},
		{`include_chroma=true`, 400, false},
		{`{"include_chroma": true, "x": "` + strings.Repeat("y", maxBody) + `"}`, 413, false},
	} {
		taken, chroma := false, false
		source := &fakeSource{state: smallState(), backup: func(_ context.Context, include bool) (any, error) {
			taken, chroma = true, include
			return map[string]string{"backup_root": "/backups/snapshots/x"}, nil
		}}
		w := serve(source, Options{}, fromHere("POST", "/admin/backup", c.body))
		if w.Code != c.status || taken != (c.status == 200) || chroma != c.chroma {
			t.Errorf("%.40q: status %d, taken %v, with Chroma %v", c.body, w.Code, taken, chroma)
		}
		if c.status != 200 && !isErrorDocument(w) {
			t.Errorf("%.40q: no error document: %s", c.body, w.Body)
		}
	}
}

func isErrorDocument(w *httptest.ResponseRecorder) bool {
	var doc struct {
		Error string `json:"error"`
	}
	return w.Header().Get("Content-Type") == "application/json" && json.Unmarshal(w.Body.Bytes(), &doc) == nil &&
		doc.Error != ""
}

// TestFailuresOfTake asks for the status of each kind of failure.
func TestFailuresOfTake(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		logged bool
	}{
		{errLocked, 409, false},
		{&failure.Error{Op: "restore pending", Kind: failure.Refused, Err: errors.New("its restore was interrupted")},
			409, false},
		{&failure.Error{Op: "space", Kind: failure.NoSpace, Err: errors.New("702 MiB are free")}, 507, true},
		{&failure.Error{Op: "backup", Kind: failure.Invalid, Err: errors.New("the copy is not valid")}, 500, true},
		{&failure.Error{Op: "backup", Kind: failure.Usage, Err: errors.New("no chroma_path is configured")}, 400,
			false},
		{context.Canceled, 503, false},
		{errors.New("disk on fire"), 500, true},
	} {
		logged := false
		source := &fakeSource{state: smallState(),
			backup: func(context.Context, bool) (any, error) { return nil, c.err }}
		w := serve(source, Options{Report: func(error) { logged = true }}, fromHere("POST", "/admin/backup", "{}"))
		if w.Code != c.status || logged != c.logged || !isErrorDocument(w) ||
			!strings.Contains(w.Body.String(), c.err.Error()) {
			t.Errorf("%v: status %d, logged %v: %s", c.err, w.Code, logged, w.Body)
		}
		if retry := w.Header().Get("Retry-After"); (retry != "") != (failure.KindOf(c.err) == failure.Locked) {
			t.Errorf("%v: Retry-After %q", c.err, retry)
		}
	}
}

// TestStampsThatAreTricks asks for stamps that try to be paths.
func TestStampsThatAreTricks(t *testing.T) {
	source := &fakeSource{state: smallState(),
		validate: func(_ context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
			t.Errorf("it was asked to validate %q", stamp)
			return snapshot.Result{}, nil
		}}
	for _, stamp := range []string{
		"..", "%2e%2e", "..%2f..%2fetc", "%2Fetc%2Fpasswd", "20260407T060000Z%2F..%2F..", "20260407T060000Z%00",
		"20260407T060000Z%0a",
		"20260407t060000z", "20260407T060000Z.", "latest", "20261307T060000Z", "-1", "%", "x;y",
		strings.Repeat("9", 4000),
	} {
		for _, path := range []string{"/admin/backup/" + stamp + "/validate", "/snapshots/" + stamp} {
			r := fromHere("GET", "/", "")
			u, err := url.ParseRequestURI(path)
			if err != nil {
				continue // such a line does not pass for a request at all
			}
			r.URL = u
			w := serve(source, Options{}, r)
			if w.Code != 400 && w.Code != 404 || !isErrorDocument(w) {
				t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
			}
		}
	}
}

// TestUncleanPathsAreNotFound keeps the mux from redirecting.
func TestUncleanPathsAreNotFound(t *testing.T) {
	for _, path := range []string{"//evil.example/", "/admin//backup", "/admin/./backup", "/x/../admin/backup",
		"/admin/backup/", "/api/status/"} {
		r := fromHere("GET", "/", "")
		r.URL.Path = path
		if w := serve(&fakeSource{state: smallState()}, Options{}, r); w.Code != 404 ||
			w.Header().Get("Location") != "" {
			t.Errorf("%s: status %d, Location %q", path, w.Code, w.Header().Get("Location"))
		}
	}
}

func TestEveryAnswerForbidsWhatItDoesNotNeed(t *testing.T) {
	for _, path := range []string{"/", "/admin/backup", "/nothing", "/assets/style.css", "/metrics",
		"/snapshots/20260407T060000Z"} {
		h := serve(&fakeSource{state: smallState()}, Options{}, fromHere("GET", path, "")).Header()
		policy := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'",
			"frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy lacks %s: %s", path, part, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestAssetsAreAskedForOnce(t *testing.T) {
	source := &fakeSource{state: smallState()}
	first := serve(source, Options{}, fromHere("GET", "/assets/style.css", ""))
	if first.Code != 200 || first.Header().Get("ETag") == "" ||
		!strings.HasPrefix(first.Header().Get("Content-Type"), "text/css") {
		t.Fatalf("status %d: %v", first.Code, first.Header())
	}
	again := fromHere("GET", "/assets/style.css", "")
	again.Header.Set("If-None-Match", first.Header().Get("ETag"))
	if w := serve(source, Options{}, again); w.Code != 304 || w.Body.Len() != 0 {
		t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := serve(source, Options{}, fromHere("GET", "/assets/..", "")); w.Code != 404 {
		t.Errorf("a file that is none: status %d", w.Code)
	}
}

// TestFailingLook says so, in the form that was asked for.
func TestFailingLook(t *testing.T) {
	logged := 0
	source := &fakeSource{lookErr: errors.New("open /backups/snapshots: input/output error")}
	o := Options{Report: func(error) { logged++ }}
	if w := serve(source, o, fromHere("GET", "/api/status", "")); w.Code != 500 || !isErrorDocument(w) {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	browser := fromHere("GET", "/", "")
	browser.Header.Set("Accept", "text/html,*/*;q=0.8")
	if w := serve(source, o, browser); w.Code != 500 || !strings.Contains(w.Body.String(), "input/output error") ||
		!strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if w := serve(source, o, fromHere("GET", "/healthz", "")); w.Code != 200 {
		t.Errorf("healthz: status %d", w.Code)
	}
	if logged != 2 {
		t.Errorf("%d failures were logged", logged)
	}
}

// TestValidationsWaitForEachOther because each reads a whole snapshot, and a
// page may ask for hundreds.
func TestValidationsWaitForEachOther(t *testing.T) {
	started, finish := make(chan snapshot.Stamp, 9), make(chan struct{})
	server := New(&fakeSource{state: smallState(),
		validate: func(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
			started <- stamp
			<-finish
			return snapshot.Result{Stamp: string(stamp), Exists: true}, nil
		}}, Options{})
	answers := make(chan int)
	ask := func(ctx context.Context) {
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, fromHere("GET", "/admin/backup/20260407T060000Z/validate", "").WithContext(ctx))
		answers <- w.Code
	}
	go ask(t.Context())
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	go ask(ctx) // it goes away before its turn comes
	<-answers
	if len(started) > 0 {
		t.Error("two validations ran at once")
	}
	close(finish)
	if code := <-answers; code != 200 {
		t.Errorf("the first one: status %d", code)
	}
}
