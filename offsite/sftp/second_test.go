package sftp

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// heldPut stores an object whose source waits until release, and returns once it
// is being read; done has Put's error.
func heldPut(t *testing.T, r *Remote, name string) (release func(), done chan error) {
	t.Helper()
	source, w := io.Pipe()
	done = make(chan error, 1)
	go func() {
		_, err := r.Put(context.Background(), name, source)
		source.CloseWithError(err)
		done <- err
	}()
	if _, err := io.WriteString(w, "age-encryption.org/v1\n"); err != nil {
		t.Fatal(err)
	}
	return func() { w.Close() }, done
}

func put(t *testing.T, r *Remote, name string) {
	t.Helper()
	if _, err := r.Put(context.Background(), name, strings.NewReader("age-encryption.org/v1\n")); err != nil {
		t.Fatal(err)
	}
}

// TestSecondServer: Puts at the same time use two servers of one connection, and
// what ends one of them ends both.
func TestSecondServer(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	r := dial(t, configFor(s))
	releaseFirst, first := heldPut(t, r, "packs/first.age")
	put(t, r, "packs/second.age") // brings the second server up, not necessarily in time
	for r.second.get() == nil {
		put(t, r, "packs/more.age")
		if err := r.Remove(context.Background(), "packs/more.age"); err != nil {
			t.Fatal(err)
		}
	}
	releaseOther, other := heldPut(t, r, "packs/third.age")
	if n := r.second.get().puts.Load(); n != 1 {
		t.Errorf("%d puts on the second server, want 1", n)
	}
	releaseOther()
	releaseFirst()
	if err := errors.Join(<-first, <-other); err != nil {
		t.Fatal(err)
	}
	if entries, err := r.List(context.Background(), "packs"); err != nil || len(entries) != 3 {
		t.Errorf("listed %v, %v; want three packs", entries, err)
	}
	releaseFirst, first = heldPut(t, r, "packs/fourth.age")
	releaseOther, other = heldPut(t, r, "packs/fifth.age")
	s.DropSessions()
	releaseFirst()
	releaseOther()
	for _, done := range []chan error{first, other} {
		if err := <-done; failure.KindOf(err) != failure.Unreachable {
			t.Errorf("a Put of a lost connection: %v", err)
		}
	}
}

// TestOneServer: a server that allows one session takes all Puts on it.
func TestOneServer(t *testing.T) {
	r := dial(t, configFor(sshdtest.Start(t, sshdtest.Options{OneSession: true})))
	release, done := heldPut(t, r, "packs/first.age")
	for _, name := range []string{"packs/second.age", "packs/third.age"} {
		put(t, r, name)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r.second.get() != nil {
		t.Error("there is a second server")
	}
}
