package notify

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is a server that remembers what it was sent, and may refuse it.
type sink struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string // path and body
	status int
}

func newSink(t *testing.T) *sink {
	s := &sink{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, r.URL.RequestURI()+" "+string(body))
		w.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *sink) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.got...)
}

// generic returns a shoutrrr address of the sink with a secret in its path.
func (s *sink) generic() string {
	return "generic://" + strings.TrimPrefix(s.URL, "http://") + "/hunter2-token?disabletls=yes"
}

func TestSend(t *testing.T) {
	s := newSink(t)
	o, err := Parse([]string{s.generic()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	told, err := o.Send(t.Context(), time.Now(), Message{"a title", "a body", Critical})
	if !told || err != nil {
		t.Fatalf("told %v, error %v", told, err)
	}
	if got := s.received(); len(got) != 1 || !strings.Contains(got[0], "a body") {
		t.Fatalf("the sink got %q", got)
	}
}

func TestOneAddressRefuses(t *testing.T) {
	good, bad := newSink(t), newSink(t)
	bad.answer(http.StatusInternalServerError)
	o, err := Parse([]string{bad.generic(), good.generic()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	told, err := o.Send(t.Context(), now, Message{"t", "once", Critical})
	if !told || err == nil {
		t.Fatalf("told %v, error %v: one of two took it", told, err)
	}
	if err := o.Retry(t.Context(), now.Add(30*time.Second)); err != nil || len(bad.received()) != 1 {
		t.Fatalf("sent again before the pause was over: %v, %d", err, len(bad.received()))
	}
	bad.answer(http.StatusOK)
	if err := o.Retry(t.Context(), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if len(bad.received()) != 2 || len(good.received()) != 1 {
		t.Fatalf("the one that refused got %d, the other %d; want 2 and 1", len(bad.received()), len(good.received()))
	}
	if err := o.Retry(t.Context(), now.Add(24*time.Hour)); err != nil || len(bad.received()) != 2 {
		t.Fatal("what arrived is sent again")
	}
}

func TestGivesUp(t *testing.T) {
	good, bad := newSink(t), newSink(t)
	bad.answer(http.StatusInternalServerError)
	o, err := Parse([]string{bad.generic(), good.generic()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	_, _ = o.Send(t.Context(), now, Message{"t", "b", Critical})
	for range 3 * giveUpAfter {
		now = now.Add(time.Hour)
		_ = o.Retry(t.Context(), now)
	}
	if n := len(bad.received()); n != giveUpAfter {
		t.Fatalf("sent %d times, want %d", n, giveUpAfter)
	}
}

func TestNobodyTookIt(t *testing.T) {
	bad := newSink(t)
	bad.answer(http.StatusInternalServerError)
	o, err := Parse([]string{bad.generic()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	told, err := o.Send(t.Context(), time.Now(), Message{"t", "b", Critical})
	if told || err == nil {
		t.Fatalf("told %v, error %v", told, err)
	}
	if err := o.Retry(t.Context(), time.Now().Add(time.Hour)); err != nil || len(bad.received()) != 1 {
		t.Fatal("a message that the caller repeats was kept as well")
	}
}

func TestHangingAddressDoesNotBlock(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	o, err := Parse([]string{"generic://" + strings.TrimPrefix(server.URL, "http://") + "/x?disabletls=yes"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if told, err := o.Send(ctx, time.Now(), Message{"t", "b", Critical}); told || err == nil {
		t.Fatalf("told %v, error %v", told, err)
	}
	_, err = o.Send(t.Context(), time.Now(), Message{"t", "b", Critical})
	if err == nil || !strings.Contains(err.Error(), "still on its way") {
		t.Fatalf("a second message hangs on the first: %v", err)
	}
}

// Every service is made to fail, and no part of any address may be in what it
// says. The addresses are of the forms that shoutrrr documents.
func TestSecretsStayOutOfErrors(t *testing.T) {
	const secret = "hunter2s3cr3t"
	closed := "127.0.0.1:1" // nobody listens there
	addresses := []string{
		"generic://" + closed + "/hooks/" + secret + "?disabletls=yes&token=" + secret,
		"ntfy://user:" + secret + "@" + closed + "/topic-" + secret + "?scheme=http",
		"gotify://" + closed + "/A" + secret + "?disabletls=yes",
		"smtp://user:" + secret + "@" + closed + "/?from=a@example.com&to=b@example.com",
		"matrix://user:" + secret + "@" + closed + "/?disableTLS=yes",
		"mattermost://" + closed + "/" + secret + "?disabletls=yes",
		"rocketchat://" + closed + "/" + secret + "/" + secret,
		"nosuchservice://" + secret + "@" + secret + "/" + secret,
		"telegram://" + secret + "@telegram?chats=" + secret,
		"discord://" + secret,
		"slack://" + secret,
		"ntfy://%zz" + secret,
		"://" + secret,
	}
	for _, raw := range addresses {
		o, err := Parse([]string{raw}, nil)
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err = o.Send(ctx, time.Now(), Message{"title", "body", Critical})
			cancel()
		}
		scheme, _, _ := strings.Cut(raw, ":")
		if err == nil {
			t.Errorf("%s: it did not fail", scheme)
			continue
		}
		t.Logf("%v", err)
		if strings.Contains(strings.ToLower(err.Error()), secret) || strings.Contains(err.Error(), "aHVudGVy") {
			t.Errorf("%s: the secret is in %q", scheme, err)
		}
	}
}

func TestRedact(t *testing.T) {
	r := newRedactor("telegram://12345:AAsecret@telegram/?chats=@channel&preview=no")
	for _, text := range []string{
		`Post "https://api.telegram.org/bot12345:AAsecret/sendMessage": EOF`,
		"token 12345%3AAAsecret is bad", "no chat %40channel", "no chat @channel", "AASECRET",
	} {
		clean := r.clean(errors.New(text))
		for _, secret := range []string{"aasecret", "12345", "channel"} {
			if strings.Contains(strings.ToLower(clean), secret) {
				t.Errorf("%q is left in %q", secret, clean)
			}
		}
	}
	wrapped := &url.Error{Op: "Post", URL: "https://x/secret", Err: errors.New("connection refused")}
	if got := r.clean(wrapped); got != "connection refused" {
		t.Errorf("clean = %q", got)
	}
	if got := r.clean(errors.New(strings.Repeat("long ", 500))); len(got) > 600 {
		t.Errorf("a server's page of %d bytes is kept", len(got))
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "urls")
	if err := os.WriteFile(path, []byte("# mine\n\n ntfy://ntfy.sh/a \nlogger://\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := ReadFile(path)
	if err != nil || strings.Join(list, "|") != "ntfy://ntfy.sh/a|logger://" {
		t.Fatalf("%q, %v", list, err)
	}
	if _, err := ReadFile(path + ".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a missing file: %v", err)
	}
}

func TestHeartbeats(t *testing.T) {
	s := newSink(t)
	var failures []error
	h := StartHeartbeats(map[string]string{"snapshot": s.URL + "/uuid-1?x=1", "prune": s.URL + "/uuid-2"},
		func(_ string, err error) {
			if err != nil {
				failures = append(failures, err)
			}
		})
	h.Beat("snapshot", Beat{Signal: Start, Body: ""})
	h.Beat("snapshot", Beat{Signal: Success, Body: ""})
	h.Beat("snapshot", Beat{Signal: Fail, Body: "no space"})
	h.Beat("scrub", Beat{Signal: Success, Body: ""}) // has no address
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Beat("snapshot", Beat{Signal: Success, Body: ""}) // after the end: nothing happens
	want := "/uuid-1/start?x=1 |/uuid-1?x=1 |/uuid-1/fail?x=1 no space"
	if got := strings.Join(s.received(), "|"); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	if len(failures) > 0 {
		t.Fatal(failures)
	}
}

func TestHeartbeatFailureHasNoSecret(t *testing.T) {
	s := newSink(t)
	s.answer(http.StatusNotFound)
	var mu sync.Mutex
	var failures []string
	note := func(_ string, err error) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, err.Error())
	}
	h := StartHeartbeats(map[string]string{"snapshot": s.URL + "/hunter2-uuid"}, note)
	h.Beat("snapshot", Beat{Signal: Success, Body: ""})
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(failures) != 1 || strings.Contains(failures[0], "hunter2") || !strings.Contains(failures[0], "404") {
		t.Fatalf("%q", failures)
	}
	if len(s.received()) != 1 {
		t.Fatal("an answer that will not change was asked for again")
	}
}

func TestStopIsBounded(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	h := StartHeartbeats(map[string]string{"snapshot": server.URL}, func(string, error) {})
	h.Beat("snapshot", Beat{Signal: Success, Body: ""})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Stop: %v", err)
	}
}
