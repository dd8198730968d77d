package remotetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// list: sorted by name, directories marked, neither "." nor "..".
func (s suite) list(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	for _, name := range []string{"b", "a.age", "c", "B", ".hidden", "a"} {
		put(t, r, "packs/"+name, ageHeader)
	}
	entries, err := r.List(ctx, "packs")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
		if e.Dir || e.Size != int64(len(ageHeader)) || e.MTime.IsZero() {
			t.Errorf("List returns %+v", e)
		}
	}
	if want := []string{".hidden", "B", "a", "a.age", "b", "c"}; !slices.Equal(names, want) {
		t.Errorf("List(packs) = %q, want %q", names, want)
	}
	entries, err = r.List(ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	packs := slices.IndexFunc(entries, func(e offsite.Entry) bool { return e.Name == "packs" })
	if packs < 0 || !entries[packs].Dir {
		t.Errorf("List(.) = %+v, want the directory packs among them", entries)
	}
	if _, err := r.List(ctx, "packs/a"); err == nil {
		t.Error("List of a file succeeded")
	}
}

// openAndCloseEarly: a reader need not read to the end, many may be open at
// once, and a directory is no object.
func (s suite) openAndCloseEarly(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	if _, err := r.Put(ctx, "packs/big", stream(8<<20)); err != nil {
		t.Fatal(err)
	}
	var open []io.Closer
	for range 4 {
		f, err := r.Open(ctx, "packs/big")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(f, make([]byte, 10)); err != nil {
			t.Errorf("read %d bytes: %v", n, err)
		}
		open = append(open, f)
	}
	for _, f := range open {
		if err := f.Close(); err != nil {
			t.Errorf("closing early: %v", err)
		}
	}
	if f, err := r.Open(ctx, "packs"); err == nil {
		f.Close()
		t.Error("Open of a directory succeeded")
	}
	put(t, r, "packs/after", "the Remote still works")
}

// free: a number of bytes, or -1.
func (s suite) free(t *testing.T) {
	r := s.open(t, t.TempDir())
	if n, err := r.Free(context.Background()); err != nil || n == 0 || n < -1 {
		t.Errorf("Free = %d, %v", n, err)
	}
}

// move: the object has its new name, and only that.
func (s suite) move(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	put(t, r, "packs/one", "data")
	if err := r.Move(ctx, "packs/one", "trash/one"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, r, "trash/one"); got != "data" {
		t.Errorf("trash/one holds %q", got)
	}
	_, err := r.Stat(ctx, "packs/one")
	wantMissing(t, "Stat of the old name", err)
	if err := r.Move(ctx, "trash/one", "packs/one"); err != nil {
		t.Errorf("moving back: %v", err)
	}
}

// moveNeverReplaces: an existing destination wins, also over itself.
func (s suite) moveNeverReplaces(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	put(t, r, "packs/one", "one")
	put(t, r, "packs/two", "two")
	put(t, r, "packs/dir/x", "x")
	for _, to := range []string{"packs/two", "packs/one", "packs/dir"} {
		if err := r.Move(ctx, "packs/one", to); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Move onto %s: %v, want fs.ErrExist", to, err)
		}
	}
	for name, want := range map[string]string{"packs/one": "one", "packs/two": "two", "packs/dir/x": "x"} {
		if got := get(t, r, name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

// remove: objects and empty directories go; a directory with something in it
// stays whole.
func (s suite) remove(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	put(t, r, "a/b/one", "data")
	if err := r.Remove(ctx, "a/b"); err == nil {
		t.Error("Remove of a directory that is not empty succeeded")
	}
	if got := get(t, r, "a/b/one"); got != "data" {
		t.Errorf("a/b/one holds %q", got)
	}
	names := []string{"a/b/one", "a/b", "a"}
	if s.opts.Keys {
		names = names[:1] // the directories have gone with it
	}
	for _, name := range names {
		if err := r.Remove(ctx, name); err != nil {
			t.Errorf("Remove(%s): %v", name, err)
		}
		wantMissing(t, "the second Remove("+name+")", r.Remove(ctx, name))
	}
	put(t, r, "a/b/one", "parents are made again")
}

// onlyAdds: an append-only Remote refuses to take anything away.
func (s suite) onlyAdds(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	put(t, r, "packs/one", "data")
	for what, err := range map[string]error{
		"Move":   r.Move(ctx, "packs/one", "trash/one"),
		"Remove": r.Remove(ctx, "packs/one"),
	} {
		if failure.KindOf(err) != failure.Refused {
			t.Errorf("%s on an append-only Remote: %v, want kind Refused", what, err)
		}
	}
	if got := get(t, r, "packs/one"); got != "data" {
		t.Errorf("packs/one holds %q", got)
	}
}
