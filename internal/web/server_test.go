package web

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/snapshot"
)

// pipes is a listener without a network, so that a test may have hours pass.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// connect returns the client's end of a new connection.
func (p *pipes) connect() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

const anyToken = "s3cret-and-long"

// started serves a source until the test ends or stop is called, which returns
// Serve's error.
func started(t *testing.T, source Source) (listener *pipes, stop func() error) {
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte(anyToken), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	listener = newPipes()
	ended := make(chan error, 1)
	go func() { ended <- New(source, Options{TokenFile: func() string { return file }}).Serve(ctx, listener) }()
	return listener, func() error { cancel(); return <-ended }
}

// post writes the head of a take, and as much of its body as is given.
func post(t *testing.T, c net.Conn, length, body string) {
	t.Helper()
	_, err := io.WriteString(c, "POST /admin/backup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+anyToken+
		"\r\nContent-Type: application/json\r\nContent-Length: "+length+"\r\n\r\n"+body)
	must(t, err)
}

func answer(c net.Conn) (int, string, error) {
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(r.Body)
	return r.StatusCode, string(body), err
}

// TestLongTakeIsAnswered lets a take last longer than any timeout.
func TestLongTakeIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, stop := started(t, &fakeSource{backup: func(ctx context.Context, _ bool) (any, error) {
			select {
			case <-time.After(5 * time.Hour):
				return map[string]string{"backup_root": "/backups/snapshots/20260407T060000Z"}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		for _, body := range []string{"{}", ""} {
			c := listener.connect()
			post(t, c, map[string]string{"{}": "2", "": "0"}[body], body)
			if status, got, err := answer(c); err != nil || status != 200 ||
				!strings.Contains(got, "20260407T060000Z") {
				t.Errorf("body %q: status %d, %v: %s", body, status, err, got)
			}
			c.Close()
		}
		must(t, stop())
	})
}

// TestLongValidationIsAnswered is the same for reading a snapshot.
func TestLongValidationIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, stop := started(t,
			&fakeSource{validate: func(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
				select {
				case <-time.After(time.Hour):
					return snapshot.Result{Stamp: string(stamp), Exists: true, Valid: true}, nil
				case <-ctx.Done():
					return snapshot.Result{}, ctx.Err()
				}
			}})
		c := listener.connect()
		_, err := io.WriteString(c, "GET /admin/backup/20260407T060000Z/validate HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		if status, got, err := answer(c); err != nil || status != 200 || !strings.Contains(got, `"valid": true`) {
			t.Errorf("status %d, %v: %s", status, err, got)
		}
		c.Close()
		must(t, stop())
	})
}

// TestTakeOutlivesItsClient cuts the connection in the middle of a take.
func TestTakeOutlivesItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error, 1)
		listener, stop := started(t, &fakeSource{backup: func(ctx context.Context, _ bool) (any, error) {
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			done <- ctx.Err()
			return nil, ctx.Err()
		}})
		c := listener.connect()
		post(t, c, "2", "{}")
		synctest.Wait()
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("the take was cancelled: %v", err)
		}
		must(t, stop())
	})
}

// TestStopCancelsATake and answers whoever waits for it.
func TestStopCancelsATake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, stop := started(t, &fakeSource{backup: func(ctx context.Context, _ bool) (any, error) {
			<-ctx.Done()
			time.Sleep(2 * time.Second) // it cleans up
			return nil, ctx.Err()
		}})
		c := listener.connect()
		post(t, c, "2", "{}")
		synctest.Wait()
		stopped := make(chan error)
		go func() { stopped <- stop() }()
		if status, got, err := answer(c); err != nil || status != 503 {
			t.Errorf("status %d, %v: %s", status, err, got)
		}
		must(t, <-stopped)
	})
}

// TestStopDoesNotWaitForever for a take that does not end.
func TestStopDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		listener, stop := started(t, &fakeSource{backup: func(ctx context.Context, _ bool) (any, error) {
			time.Sleep(time.Hour)
			close(done)
			return nil, nil
		}})
		c := listener.connect()
		post(t, c, "2", "{}")
		synctest.Wait()
		before := time.Now()
		if err := stop(); !errors.Is(err, context.DeadlineExceeded) || time.Since(before) != shutdownPatience {
			t.Errorf("it ended after %s with %v", time.Since(before), err)
		}
		<-done
	})
}

// TestSlowClientsAreCutOff sends less than it promised and then nothing.
func TestSlowClientsAreCutOff(t *testing.T) {
	for _, c := range []struct {
		name, sent string
		patience   time.Duration
	}{
		{"half a head", "GET / HTTP/1.1\r\nHost: x\r\n", headerTimeout},
		{"half a body", "POST /admin/backup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + anyToken +
			"\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{", readTimeout},
		{"a body that nobody reads", "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{", readTimeout},
		{"nothing", "", headerTimeout},
		{"nothing after a request", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", idleTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				taken := false
				listener, stop := started(t,
					&fakeSource{backup: func(context.Context, bool) (any, error) { taken = true; return nil, nil }})
				conn := listener.connect()
				begin := time.Now()
				_, err := io.WriteString(conn, c.sent)
				must(t, err)
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("the connection broke: %v", err)
				}
				if waited := time.Since(begin); waited < c.patience || waited > c.patience+time.Second || taken {
					t.Errorf("it held the connection for %s; taken: %v", waited, taken)
				}
				must(t, stop())
			})
		})
	}
}

// TestHeadIsBounded sends a head without end.
func TestHeadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, stop := started(t, &fakeSource{})
		c := listener.connect()
		go func() {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
		}()
		if status, _, err := answer(c); err != nil || status != 431 {
			t.Errorf("status %d, %v", status, err)
		}
		c.Close()
		must(t, stop())
	})
}

// TestPanicIsReported and does not end the server.
func TestPanicIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reported := make(chan error, 1)
		listener := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		server := New(&fakeSource{}, Options{Report: func(err error) { reported <- err }}) // no state: Look dereferences nil
		go func() { ended <- server.Serve(ctx, listener) }()
		c := listener.connect()
		_, err := io.WriteString(c, "GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		if _, _, err := answer(c); err == nil {
			t.Error("it was answered")
		}
		if err := <-reported; !strings.Contains(err.Error(), "panic") {
			t.Errorf("reported: %v", err)
		}
		cancel()
		must(t, <-ended)
	})
}
