package remotetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// roundTrip: what was put is listed, described and read back byte for byte,
// whatever its size, and nothing stays in incoming/.
func (s suite) roundTrip(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	for _, size := range []int64{0, 1, 4095, 40 << 20} {
		name := fmt.Sprintf("packs/%d", size)
		n, err := r.Put(ctx, name, stream(size))
		if err != nil || n != size {
			t.Fatalf("Put(%s) = %d, %v", name, n, err)
		}
		e, err := r.Stat(ctx, name)
		if err != nil || e.Size != size || e.Dir || e.Name != fmt.Sprint(size) || e.MTime.IsZero() {
			t.Errorf("Stat(%s) = %+v, %v", name, e, err)
		}
		f, err := r.Open(ctx, name)
		if err != nil {
			t.Fatalf("Open(%s): %v", name, err)
		}
		gotSize, got := digest(t, f)
		if err := f.Close(); err != nil {
			t.Errorf("closing %s: %v", name, err)
		}
		if _, want := digest(t, stream(size)); gotSize != size || got != want {
			t.Errorf("%s: read %d bytes that differ from the %d put", name, gotSize, size)
		}
	}
	if !s.opts.AppendOnly {
		s.wantNoPartials(t, r)
	}
}

// ageObjects: an age header, and nothing but one, is enough for a .age name.
func (s suite) ageObjects(t *testing.T) {
	r := s.open(t, t.TempDir())
	for name, data := range map[string]string{"packs/a.age": ageHeader, "packs/b.age": ageHeader + "-> X25519 …"} {
		put(t, r, name, data)
		if got := get(t, r, name); got != data {
			t.Errorf("%s holds %q, want %q", name, got, data)
		}
	}
}

// nothingInTheClear: a .age name whose bytes are no age file is refused.
func (s suite) nothingInTheClear(t *testing.T) {
	r := s.open(t, t.TempDir())
	for i, data := range []string{
		"", "age", "SQLite format 3\x00" + strings.Repeat("canary", 100), ageHeader[:len(ageHeader)-1],
		" " + ageHeader,
	} {
		name := fmt.Sprintf("packs/%d.age", i)
		if _, err := r.Put(context.Background(), name, strings.NewReader(data)); err == nil {
			t.Errorf("Put(%s) of %.30q succeeded", name, data)
		}
		s.wantNothing(t, r, name)
	}
}

// putNeverReplaces: an existing object stays as it was.
func (s suite) putNeverReplaces(t *testing.T) {
	r := s.open(t, t.TempDir())
	put(t, r, "packs/one", "the first")
	for _, data := range []string{"the other", "", "the first"} {
		if _, err := r.Put(context.Background(), "packs/one", strings.NewReader(data)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Put onto an existing name: %v, want fs.ErrExist", err)
		}
		if got := get(t, r, "packs/one"); got != "the first" {
			t.Fatalf("the object was changed to %q", got)
		}
	}
	if !s.opts.AppendOnly {
		s.wantNoPartials(t, r)
	}
}

// failingReader: an error of the source comes back and leaves nothing, also
// one that wraps io.EOF, which must not be taken for the end of the data.
func (s suite) failingReader(t *testing.T) {
	r := s.open(t, t.TempDir())
	boom := errors.New("the disk under the source died")
	for i, cause := range []error{
		boom, fmt.Errorf("%w after %w", boom, io.EOF), fmt.Errorf("%w after %w", boom, io.ErrUnexpectedEOF),
	} {
		for _, size := range []int64{0, 1, 300 << 10, 5 << 20} {
			name := fmt.Sprintf("packs/%d-%d", i, size)
			source := io.MultiReader(stream(size), failing{cause})
			if _, err := r.Put(context.Background(), name, source); !errors.Is(err, boom) {
				t.Errorf("Put whose source fails after %d bytes: %v, want %v", size, err, boom)
			}
			s.wantNothing(t, r, name)
		}
	}
	put(t, r, "packs/after", "the Remote still works")
}

// failing is a source that returns nothing but its error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// concurrentPuts: eight goroutines store at once through one Remote.
func (s suite) concurrentPuts(t *testing.T) {
	r := s.open(t, t.TempDir())
	const each = 1<<20 + 17
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if n, err := r.Put(context.Background(), fmt.Sprintf("packs/%d", i), stream(each)); err != nil ||
				n != each {
				t.Errorf("Put %d = %d, %v", i, n, err)
			}
		})
	}
	wg.Wait()
	_, want := digest(t, stream(each))
	for i := range 8 {
		if n, got := digest(t, strings.NewReader(get(t, r, fmt.Sprintf("packs/%d", i)))); got != want {
			t.Errorf("packs/%d: %d bytes that differ from what was put", i, n)
		}
	}
}

// concurrentPutsOfOneName: exactly one wins, and the object is that one's.
func (s suite) concurrentPutsOfOneName(t *testing.T) {
	r := s.open(t, t.TempDir())
	content := func(i int) string { return strings.Repeat(fmt.Sprint(i), 100_000) }
	var wins [6]bool
	var wg sync.WaitGroup
	for i := range wins {
		wg.Go(func() {
			_, err := r.Put(context.Background(), "packs/one", strings.NewReader(content(i)))
			if wins[i] = err == nil; err != nil && !errors.Is(err, fs.ErrExist) {
				t.Errorf("the loser gets %v, want fs.ErrExist", err)
			}
		})
	}
	wg.Wait()
	winners, got := 0, get(t, r, "packs/one")
	for i, won := range wins {
		if !won {
			continue
		}
		winners++
		if got != content(i) {
			t.Errorf("Put %d succeeded, but the object is %.10q…", i, got)
		}
	}
	if winners != 1 {
		t.Errorf("%d Puts of one name succeeded, want 1", winners)
	}
	if !s.opts.AppendOnly {
		s.wantNoPartials(t, r)
	}
}

// cancelledPut: a context that ends in the middle ends the Put; nothing stays
// and the Remote goes on working.
func (s suite) cancelledPut(t *testing.T) {
	r := s.open(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	source := io.MultiReader(stream(1<<20), call(cancel), stream(1<<40))
	_, err := r.Put(ctx, "packs/one", source)
	if !errors.Is(err, context.Canceled) || failure.KindOf(err) != failure.Interrupted {
		t.Errorf("cancelled Put: %v (kind %d), want context.Canceled", err, failure.KindOf(err))
	}
	s.wantNothing(t, r, "packs/one")
	put(t, r, "packs/one", "the Remote still works")
}

// call is a source that holds nothing and does something when it is read.
type call func()

func (c call) Read([]byte) (int, error) { c(); return 0, io.EOF }

// parents: Put makes the directories that a name needs.
func (s suite) parents(t *testing.T) {
	r := s.open(t, t.TempDir())
	put(t, r, "a/b/c/object", "deep")
	put(t, r, "top", "shallow")
	if got := get(t, r, "a/b/c/object"); got != "deep" {
		t.Errorf("a/b/c/object holds %q", got)
	}
	if e, err := r.Stat(context.Background(), "a/b"); err != nil || !e.Dir {
		t.Errorf("Stat(a/b) = %+v, %v, want a directory", e, err)
	}
}
