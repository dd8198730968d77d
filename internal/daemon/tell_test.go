package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/snapshot"
)

// mailbox is a server that keeps what it is sent, and may refuse it or hang.
type mailbox struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []string
}

func newMailbox(t *testing.T) *mailbox {
	m := &mailbox{status: http.StatusOK}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.got = append(m.got, r.URL.Path+" "+string(body))
		w.WriteHeader(m.status)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mailbox) answer(status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = status
}

// url is a shoutrrr address of the mailbox.
func (m *mailbox) url() string {
	return "generic://" + strings.TrimPrefix(m.URL, "http://") + "/hunter2?disabletls=yes"
}

// hanging is a server that takes requests, says which, and never answers.
func hanging(t *testing.T) (address string, asked <-chan string) {
	release, paths := make(chan struct{}), make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		paths <- r.URL.Path
		<-release
	}))
	t.Cleanup(func() { close(release); server.Close() })
	return server.URL, paths
}

// notifying writes [notify] into the configuration.
func (h *house) notifying(urls []string, more string) {
	h.t.Helper()
	text, err := os.ReadFile(h.path("config.toml"))
	if err != nil {
		h.t.Fatal(err)
	}
	list, err := json.Marshal(urls)
	if err != nil {
		h.t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "\n[notify]\n")
	h.write("config.toml", before+"\n[notify]\nurls = "+string(list)+"\n"+more)
}

// Addresses and heartbeats that hang delay neither the work nor the end: a daemon
// that is told to stop stops, cleanly.
func TestStopWhileAddressesHang(t *testing.T) {
	h := newHouse(t, "")
	dead, asked := hanging(t)
	h.notifying([]string{"generic://" + strings.TrimPrefix(dead, "http://") + "/message?disabletls=yes"},
		"[notify.heartbeats]\nsnapshot = \""+dead+"/heartbeat\"\n")
	a := h.open()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a.Config.HTTP.Listen = taken.Addr().String() // an alarm as soon as it starts
	d := newDaemon(a)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx, nil) }()
	if path := <-asked; path != "/message" {
		t.Fatalf("asked for %s", path)
	}
	if _, err := a.BackupNow(t.Context(), snapshot.Manual, false); err != nil {
		t.Errorf("a snapshot waits for an address: %v", err)
	}
	if path := <-asked; path != "/heartbeat/start" {
		t.Fatalf("asked for %s", path)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("it does not stop cleanly: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// failed reports whether a run of a job is recorded that failed.
func failed(t *testing.T, a *app.App, job string) bool {
	t.Helper()
	runs, err := a.Runs(t.Context(), app.RunFilter{Job: job, Failed: true})
	if err != nil {
		t.Fatal(err)
	}
	return len(runs) > 0
}

// Each address that does not take a message is named, also by the next daemon,
// until it takes one or is configured no more.
func TestEachAddressIsACondition(t *testing.T) {
	h := newHouse(t, "")
	good, bad := newMailbox(t), newMailbox(t)
	bad.answer(http.StatusInternalServerError)
	h.notifying([]string{good.url(), bad.url()}, "[notify.heartbeats]\nsnapshot = \""+bad.URL+"/ping\"\n")
	a := h.open()
	defer a.Close()
	d := newDaemon(a)
	d.alarmLoop = newAlarmLoop(t.Context(), d.app, time.Minute)
	now := time.Now()
	start := func() {
		t.Helper()
		outbox, err := openOutbox(d.app().Config)
		if err != nil {
			t.Fatal(err)
		}
		d.tellThrough(d.app(), outbox)
	}
	conditions := func() (texts []string) {
		t.Helper()
		for _, u := range d.life.now.Notify {
			texts = append(texts, u.Message)
		}
		return texts
	}
	start()
	d.life.bad("job:scrub", health.Trouble{Message: "it hangs"})
	d.alarmLoop.pass(t.Context(), now)
	if got := conditions(); len(got) != 1 || !strings.Contains(got[0], "address 2 (generic)") ||
		strings.Contains(got[0], "hunter2") {
		t.Errorf("one of two is dead: %q", got)
	}
	// 404 is an answer that will not change, so the heartbeat is not tried again.
	bad.answer(http.StatusNotFound)
	a.SetPulse(d.heartbeats.Load().Beat)
	d.heartbeats.Load().Beat("snapshot", notify.Beat{})
	if err := d.heartbeats.Load().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := conditions(); len(got) != 2 || !strings.Contains(got[1], "heartbeat snapshot: the server answered 404") {
		t.Errorf("a heartbeat is dead too: %q", got)
	}

	d.life = newLife(d.app) // the next daemon
	start()
	if got := conditions(); len(got) != 2 {
		t.Errorf("the next daemon has forgotten: %q", got)
	}
	r := health.Judge(health.Facts{Notify: []health.Trouble{{Message: "a"}, {Message: "b"}}}, now)
	if len(r.Conditions) != 1 || !strings.Contains(r.Conditions[0].Message, "a; b") {
		t.Errorf("they are not both named: %+v", r.Conditions)
	}
	bad.answer(http.StatusOK)
	d.life.bad("job:prune", health.Trouble{Message: "it hangs too"})
	d.alarmLoop.pass(t.Context(), now.Add(2*time.Hour))
	if got := conditions(); len(got) != 1 || !strings.Contains(got[0], "heartbeat") {
		t.Errorf("the address took a message: %q", got)
	}
	h.notifying([]string{good.url()}, "")
	d.app().Config.Notify.Heartbeats = nil
	start()
	if got := conditions(); len(got) != 0 {
		t.Errorf("what is configured no more is named: %q", got)
	}
	if err := d.stopHeartbeats(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The digest comes when it is due, says how things stand, is tried again when
// nobody takes it, and is a run.
func TestDigestIsSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "[notify]\ndigest = \"0 8 * * *\"\n")
	synctest.Test(t, func(t *testing.T) {
		h.t = t
		h.start(nil)
		until(1, 7, 59)
		h.expect("before its time")
		until(1, 8, 1)
		h.expect("at its time", "You can restore to 2000-01-01 06:00 UTC|On disk: 1 snapshot|1 of backup|prune: last "+
			"went well")
		h.sink.setDeaf(true)
		until(2, 8, 1)
		h.expect("nobody listens")
		h.sink.setDeaf(false)
		until(2, 12, 0)
		h.expect("somebody listens again", "Jan 2 08:0|You can restore to 2000-01-02 06:00 UTC|(2 failed)")
		h.stop()
		a := h.open()
		defer a.Close()
		if !failed(t, a, app.DigestJob) {
			t.Error("a digest that nobody took is no failed run")
		}
	})
}
