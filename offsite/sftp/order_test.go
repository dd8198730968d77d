package sftp

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// recorder notes the kinds of the requests that pass.
type recorder struct {
	io.WriteCloser
	mu    sync.Mutex
	bytes []byte
	seen  []string
}

var requestNames = map[byte]string{
	1: "init", 3: "open", 4: "close", 5: "read", 6: "write", 7: "lstat", 8: "fstat", 9: "setstat", 10: "fsetstat",
	11: "opendir", 12: "readdir", 13: "remove", 14: "mkdir", 15: "rmdir", 17: "stat", 18: "rename",
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes = append(r.bytes, p...)
	for len(r.bytes) >= 4 {
		size := 4 + int(binary.BigEndian.Uint32(r.bytes))
		if len(r.bytes) < size {
			break
		}
		packet := r.bytes[4:size]
		name, ok := requestNames[packet[0]]
		if packet[0] == 200 { // extended: id, then its name
			length := binary.BigEndian.Uint32(packet[5:])
			name, ok = string(packet[9:9+length]), true
		}
		if !ok {
			name = "unknown"
		}
		if n := len(r.seen); n == 0 || name != "write" || r.seen[n-1] != "write" {
			r.seen = append(r.seen, name)
		}
		r.bytes = r.bytes[size:]
	}
	return r.WriteCloser.Write(p)
}

// take returns the requests since the last call, writes in a row as one.
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return strings.Join(seen, " ")
}

// recorded is a Remote on OpenSSH's server whose requests are noted.
func recorded(t *testing.T, root string, appendOnly bool) (*Remote, *recorder) {
	t.Helper()
	cfg, err := Config{Hosts: []string{"pipe"}, Path: root, KnownHosts: "none", AppendOnly: appendOnly}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	l, _ := sftpServer(t)
	rec := &recorder{WriteCloser: l.WriteCloser}
	l.WriteCloser = rec
	r, err := newRemote(context.Background(), "pipe", l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, rec
}

const (
	syncDir = "open fsync@openssh.com close"
	mkdir   = "lstat stat mkdir " + syncDir + " lstat " // is it there, is the root, make it, is it no link
	upload  = "open write fstat read fsync@openssh.com close"
)

// What survives a power cut depends on the order of requests: the bytes are
// flushed before they get their name, the name before Put says so.
func TestOrderOfRequests(t *testing.T) {
	ctx := context.Background()
	put := func(t *testing.T, r *Remote, name string) {
		t.Helper()
		if _, err := r.Put(
			ctx, name, strings.NewReader("age-encryption.org/v1\n"+strings.Repeat("x", 100_000)),
		); err != nil {
			t.Fatal(err)
		}
	}
	want := func(t *testing.T, rec *recorder, what, want string) {
		t.Helper()
		if got := rec.take(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	t.Run("rename", func(t *testing.T) {
		r, rec := recorded(t, t.TempDir(), false)
		put(t, r, "packs/first.age")
		want(t, rec, "first Put", "init "+mkdir+mkdir+"lstat "+upload+" lstat rename "+syncDir+" "+syncDir)
		put(t, r, "packs/second.age")
		want(t, rec, "second Put", "lstat "+upload+" lstat rename "+syncDir+" "+syncDir)
		if err := r.Move(ctx, "packs/first.age", "packs/third.age"); err != nil {
			t.Fatal(err)
		}
		want(t, rec, "Move", "lstat lstat rename "+syncDir+" "+syncDir)
		if err := r.Remove(ctx, "packs/third.age"); err != nil {
			t.Fatal(err)
		}
		want(t, rec, "Remove", "lstat remove "+syncDir)
	})
	t.Run("append-only", func(t *testing.T) {
		root := t.TempDir()
		for _, dir := range []string{"packs", "incoming"} {
			if err := os.Mkdir(root+"/"+dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		r, rec := recorded(t, root, true)
		put(t, r, "packs/one.age")
		if got := rec.take(); !strings.HasSuffix(got, upload+" hardlink@openssh.com "+syncDir) {
			t.Errorf("Put: %s", got)
		}
		for _, data := range []io.Reader{strings.NewReader("clear"), failingSource{}} {
			if _, err := r.Put(ctx, "packs/two.age", data); err == nil {
				t.Error("Put succeeded")
			}
		}
		if err := r.Remove(ctx, "packs/one.age"); failure.KindOf(err) != failure.Refused {
			t.Errorf("Remove: %v", err)
		}
		for _, request := range strings.Fields(rec.take()) {
			switch request {
			case "remove", "rename", "rmdir", "mkdir", "setstat", "fsetstat", "posix-rename@openssh.com", "unknown":
				t.Errorf("an append-only client asked for %s", request)
			}
		}
	})
}

type failingSource struct{}

func (failingSource) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
