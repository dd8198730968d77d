package notify

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// twoMessages are a failure and its end: an address that keeps anything of the
// first would show it with the second.
var twoMessages = []Message{
	{"atobackupd on dalidou: scrub is bad", "CRITICAL scrub: 1 snapshot is damaged", Critical},
	{"atobackupd on dalidou: scrub has recovered", "RECOVERED scrub", Recovered},
}

// sendBoth sends both messages through one outbox, as the daemon does.
func sendBoth(t *testing.T, addresses, argv []string) {
	t.Helper()
	o, err := Parse(addresses, argv)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range twoMessages {
		if told, err := o.Send(t.Context(), time.Now(), m); !told || err != nil {
			t.Fatalf("%q: told %v, %v", m.Title, told, err)
		}
	}
}

func TestNtfyTitlesPrioritiesAndTags(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header
		if r.URL.Path != "/silent" { // ntfy answers with what it published, and a stand-in may not
			_, _ = io.WriteString(w, "{}")
		}
		got = append(got, strings.Join([]string{r.URL.Path, strings.Join(h["Title"], "|"),
			strings.Join(h["Priority"], "|"), strings.Join(h["Tags"], "|"), string(body)}, "; "))
	}))
	defer server.Close()
	sendBoth(t, []string{"ntfy://" + strings.TrimPrefix(server.URL, "http://") + "/topic?scheme=http"}, nil)
	sendBoth(t, []string{"ntfy://" + strings.TrimPrefix(server.URL, "http://") + "/silent?scheme=http"}, nil)
	want := []string{
		"/topic; atobackupd on dalidou: scrub is bad; Max; rotating_light; CRITICAL scrub: 1 snapshot is damaged",
		"/topic; atobackupd on dalidou: scrub has recovered; Low; white_check_mark; RECOVERED scrub",
	}
	for _, line := range want[:2] {
		want = append(want, strings.Replace(line, "/topic", "/silent", 1))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWebhookGetsJSON(t *testing.T) {
	var got []map[string]string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var one map[string]string
		if err := json.NewDecoder(r.Body).Decode(&one); err != nil {
			t.Error(err)
		}
		got = append(got, one)
	}))
	defer server.Close()
	sendBoth(t, []string{"generic://" + strings.TrimPrefix(server.URL, "http://") +
		"/hook?disabletls=yes&template=json"}, nil)
	if len(got) != 2 {
		t.Fatalf("got %v", got)
	}
	for i, m := range twoMessages {
		if got[i]["title"] != m.Title || got[i]["message"] != m.Body || got[i]["level"] != string(m.Level) {
			t.Errorf("message %d arrived as %v", i, got[i])
		}
	}
}

// mailServer starts Python's SMTP server, which prints each mail that it gets.
func mailServer(t *testing.T) (address string, lines <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	cmd := exec.Command("python3", "-u", "-W", "ignore", "-m", "smtpd", "-n", "-c", "DebuggingServer", address)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 300 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	all := make(chan string, 1000)
	go func() {
		defer close(all)
		for s := bufio.NewScanner(out); s.Scan(); {
			all <- s.Text()
		}
	}()
	return address, all
}

func TestMailSubjects(t *testing.T) {
	address, lines := mailServer(t)
	sendBoth(t, []string{"smtp://" + address +
		"/?from=vm@example.org&to=ops@example.org&auth=None&encryption=None&starttls=no"}, nil)
	var subjects, text []string
	for line := range lines {
		text = append(text, line)
		if strings.Contains(line, "ubject: ") {
			subjects = append(subjects, line)
		}
		if strings.Contains(line, "END MESSAGE") && len(subjects) == 2 {
			break
		}
	}
	for i, m := range twoMessages {
		if i >= len(subjects) || !strings.Contains(subjects[i], m.Title) {
			t.Errorf("mail %d has not the subject %q: %q", i, m.Title, subjects)
		}
		if !strings.Contains(strings.Join(text, "\n"), m.Body) {
			t.Errorf("no mail says %q:\n%s", m.Body, strings.Join(text, "\n"))
		}
	}
}

func TestCommandReadsTheMessage(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "tell")
	text := "#!/bin/sh\n{ echo \"$1 $ATOBACKUPD_LEVEL\"; cat; echo --; } >>" + dir + "/got\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	sendBoth(t, nil, []string{script, "ops; rm -rf $HOME"})
	got, err := os.ReadFile(filepath.Join(dir, "got"))
	want := "ops; rm -rf $HOME critical\natobackupd on dalidou: scrub is bad\n\nCRITICAL scrub: 1 snapshot is " +
		"damaged\n--\n" +
		"ops; rm -rf $HOME recovered\natobackupd on dalidou: scrub has recovered\n\nRECOVERED scrub\n--\n"
	if err != nil || string(got) != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
}

func TestCommandFails(t *testing.T) {
	for name, argv := range map[string][]string{
		"status 3: no route": {"/bin/sh", "-c", "echo no route >&2; exit 3"},
		"no such file":       {"/nonexistent/tell"},
	} {
		o, err := Parse(nil, argv)
		if err != nil {
			t.Fatal(err)
		}
		told, err := o.Send(t.Context(), time.Now(), twoMessages[0])
		if told || err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), argv[0]) {
			t.Errorf("told %v, error %v", told, err)
		}
	}
}
