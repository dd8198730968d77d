package sftp

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// proxy relays one connection after the other to a server until so many bytes
// have gone up, and then cuts the line or goes silent.
type proxy struct {
	listener net.Listener
	server   string
	after    int64 // bytes from the client
	silent   bool  // keep the line open and relay nothing more
}

func startProxy(t *testing.T, s *sshdtest.Server, after int64, silent bool) Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go (&proxy{l, s.Address(), after, silent}).run()
	cfg := configFor(s)
	cfg.Port = l.Addr().(*net.TCPAddr).Port
	cfg.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
	key := strings.Join(strings.Fields(s.HostKeyLine("ed25519"))[1:], " ")
	if err := AppendKnownHosts(
		cfg.KnownHosts, []string{knownhosts.Normalize(cfg.address(s.Host)) + " " + key},
	); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (p *proxy) run() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.relay(client.(*net.TCPConn))
	}
}

func (p *proxy) relay(client *net.TCPConn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		client.Close()
		return
	}
	defer server.Close()
	down := make(chan struct{})
	go func() { // answers
		buf := make([]byte, 32<<10)
		for {
			n, err := server.Read(buf)
			select {
			case <-down:
				return
			default:
			}
			if n > 0 {
				client.Write(buf[:n])
			}
			if err != nil {
				client.Close()
				return
			}
		}
	}()
	io.CopyN(server, client, p.after)
	if p.silent {
		close(down)
		return // the client's side stays open and is never read again
	}
	client.SetLinger(0) // a reset, as from a router that has forgotten the line
	client.Close()
}

// random is reproducible data that does not compress.
func random(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{7}), size)
}

// Wherever the line is cut, the object is absent or whole, and the error says
// that trying later makes sense.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	const size = 120_000
	want := sha256.New()
	io.Copy(want, random(size))
	var puts, whole int
	for after := int64(1000); ; after += 6151 {
		cfg := startProxy(t, s, after, false)
		cfg.Path = filepath.Join(s.Dir, fmt.Sprint(after))
		put := false
		r, err := Dial(context.Background(), cfg)
		if err == nil {
			put = true
			puts++
			_, err = r.Put(context.Background(), "packs/one", random(size))
			r.Close()
		}
		if err != nil && failure.KindOf(err) != failure.Unreachable {
			t.Errorf("cut after %d bytes (in Put: %v): kind %d: %v", after, put, failure.KindOf(err), err)
		}
		data, e := os.ReadFile(filepath.Join(cfg.Path, "packs", "one"))
		switch {
		case errors.Is(e, fs.ErrNotExist):
			if err == nil {
				t.Errorf("cut after %d bytes: Put succeeded and there is nothing", after)
			}
		case sha256.Sum256(data) != [sha256.Size]byte(want.Sum(nil)):
			t.Errorf("cut after %d bytes: %d bytes under the final name", after, len(data))
		default:
			whole++
		}
		if put && err == nil {
			break // the line held
		}
	}
	if puts < 15 || whole < 1 {
		t.Errorf("only %d Puts were tried and %d objects are whole", puts, whole)
	}
}

// hurried gives up soon, but not because the machine under test is busy.
func hurried(cfg Config) Config {
	cfg.KeepAlive, cfg.OpTimeout = 500*time.Millisecond, 1500*time.Millisecond
	return cfg
}

// A black hole: the line stays open and swallows everything. The Put ends, also
// with a write that waits in a full socket.
func TestBlackHoleInMidUpload(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		cfg := hurried(startProxy(t, s, 300_000, true))
		cfg.Transport, cfg.Path = transport, filepath.Join(s.Dir, transport)
		r := dial(t, cfg)
		_, err := r.Put(context.Background(), "packs/one", random(64<<20))
		if failure.KindOf(err) != failure.Unreachable || !strings.Contains(err.Error(), "packs/one: connection lost") {
			t.Errorf("Put into a black hole: %v", err)
		}
		if _, err := r.List(context.Background(), "packs"); failure.KindOf(err) != failure.Unreachable {
			t.Errorf("List afterwards: %v", err)
		}
		if _, err := os.Stat(filepath.Join(cfg.Path, "packs", "one")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("something has the final name: %v", err)
		}
	})
}

// A machine that falls asleep between two operations, or while one reads.
func TestStall(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		ctx := context.Background()
		cfg := configFor(s)
		cfg.Transport, cfg.Path = transport, filepath.Join(s.Dir, transport)
		if _, err := dial(t, cfg).Put(ctx, "packs/one", random(8<<20)); err != nil {
			t.Fatal(err)
		}
		r := dial(t, hurried(cfg))
		f, err := r.Open(ctx, "packs/one")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s.Stall()
		defer s.Resume()
		if _, err := io.Copy(io.Discard, f); failure.KindOf(err) != failure.Unreachable {
			t.Errorf("reading from a sleeping machine: %v", err)
		}
		if _, err := r.Stat(ctx, "packs/one"); failure.KindOf(err) != failure.Unreachable {
			t.Errorf("Stat on a sleeping machine: %v", err)
		}
	})
}

// The keepalive finds a sleeping machine even while nothing is asked of it.
func TestKeepAliveFindsSleeper(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	cfg := hurried(configFor(s))
	cfg.OpTimeout = time.Hour
	r := dial(t, cfg)
	s.Stall()
	defer s.Resume()
	<-r.watch.stopped
	if _, err := r.Free(context.Background()); failure.KindOf(err) != failure.Unreachable ||
		!strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("Free on a sleeping machine: %v", err)
	}
}

// An idle or slow source is no reason to give up a machine that is awake.
func TestSlowSourceIsNoStall(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		cfg := hurried(configFor(s))
		cfg.OpTimeout, cfg.Transport, cfg.Path = 600*time.Millisecond, transport, filepath.Join(s.Dir, transport)
		pause := pausing(900 * time.Millisecond)
		source := io.MultiReader(random(100_000), pause, random(100_000))
		if n, err := dial(t, cfg).Put(context.Background(), "packs/one", source); err != nil || n != 200_000 {
			t.Errorf("Put with a pause = %d, %v", n, err)
		}
	})
}

// pausing is an empty source that takes its time.
type pausing time.Duration

func (p pausing) Read([]byte) (int, error) { time.Sleep(time.Duration(p)); return 0, io.EOF }

// A cancelled operation does not wait for a machine that is asleep longer than
// it must, and says that it was cancelled.
func TestCancelledWhileStalled(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	cfg := configFor(s)
	r := dial(t, cfg)
	r.grace = 50 * time.Millisecond
	s.Stall()
	defer s.Resume()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := r.Put(ctx, "packs/one", random(8<<20)); failure.KindOf(err) != failure.Interrupted {
		t.Errorf("cancelled Put on a sleeping machine: kind %d: %v", failure.KindOf(err), err)
	}
}

// Every session killed: the operation under way and all later ones say so, and
// dialling again works.
func TestDroppedSession(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, sshdtest.Options{})
	both(t, func(t *testing.T, transport string) {
		ctx := context.Background()
		cfg := configFor(s)
		cfg.Transport, cfg.Path = transport, filepath.Join(s.Dir, transport)
		r := dial(t, cfg)
		drop := sourceFunc(func([]byte) (int, error) { s.DropSessions(); return 0, io.EOF })
		_, err := r.Put(ctx, "packs/one", io.MultiReader(random(1<<20), drop, random(8<<20)))
		if failure.KindOf(err) != failure.Unreachable {
			t.Errorf("Put on a dropped session: %v", err)
		}
		if _, err := r.Stat(ctx, "packs"); failure.KindOf(err) != failure.Unreachable {
			t.Errorf("Stat on a dropped session: %v", err)
		}
		if _, err := dial(t, cfg).Put(ctx, "packs/one", random(1<<20)); err != nil {
			t.Errorf("Put after dialling again: %v", err)
		}
	})
}

type sourceFunc func([]byte) (int, error)

func (f sourceFunc) Read(p []byte) (int, error) { return f(p) }

// A disk that is really full says only "Failure"; every Put that met it is told
// what it was, and nothing stays behind.
func TestFullDisk(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatalf("mounting a small tmpfs, which needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(root, syscall.MNT_DETACH) })
	ctx := context.Background()
	r := pipe(t, root)
	if _, err := r.Put(ctx, "packs/small", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			_, err := r.Put(ctx, fmt.Sprintf("packs/big%d", i), random(16<<20))
			if failure.KindOf(err) != failure.NoSpace || !strings.Contains(err.Error(), "no space left there") {
				t.Errorf("Put on a full disk: kind %d: %v", failure.KindOf(err), err)
			}
		})
	}
	wg.Wait()
	for dir, want := range map[string]int{"packs": 1, offsite.IncomingDir: 0} {
		if entries, err := r.List(ctx, dir); err != nil || len(entries) != want {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
	if _, err := r.Put(ctx, "packs/later", random(1<<20)); err != nil {
		t.Errorf("Put with room again: %v", err)
	}
}

func TestPermissionDenied(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{User: "backup"})
	cfg := configFor(s)
	cfg.Path = filepath.Join(s.Dir, "closed")
	if err := os.Mkdir(cfg.Path, 0o755); err != nil { // root's
		t.Fatal(err)
	}
	_, err := dial(t, cfg).Put(context.Background(), "packs/one", strings.NewReader("data"))
	if !errors.Is(err, fs.ErrPermission) ||
		!strings.Contains(err.Error(), cfg.Path+"/packs/one: permission denied: let the account") {
		t.Errorf("Put without permission: %v", err)
	}
}
