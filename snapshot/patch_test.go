package snapshot

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the two versions are like, the patched clone is the new one, and no
// more is written than differs.
func TestPatch(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(0, 3*patchChunk).Draw(rt, "size")
		from := make([]byte, rapid.IntRange(0, 3*patchChunk).Draw(rt, "size before"))
		_, _ = rand.NewChaCha8([32]byte{1}).Read(from)
		want := make([]byte, size)
		copy(want, from)
		pages := max(1, (size+pageSize-1)/pageSize)
		changed := map[int]bool{}
		for _, page := range rapid.SliceOfN(rapid.IntRange(0, pages-1), 0, 40).Draw(rt, "changed pages") {
			if at := page*pageSize + 7; at < size {
				want[at] ^= 0xff
				changed[page] = true
			}
		}
		for page := min(size, len(from)) / pageSize; page < pages; page++ {
			changed[page] = true // what was not there before
		}
		// What a clone that was cut to the new size holds.
		path := filepath.Join(dir, "clone")
		must(t, os.WriteFile(path, from, 0o600))
		must(t, os.Truncate(path, int64(size)))
		out, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		defer out.Close()
		if err := patch(
			context.Background(),
			out,
			bytes.NewReader(want),
			bytes.NewReader(from),
			int64(len(changed)*pageSize),
		); err != nil {
			rt.Fatalf("%d pages of %d changed: %v", len(changed), pages, err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			rt.Fatalf("the patched clone differs: %d bytes, want %d: %v", len(got), len(want), err)
		}
	})
}

func TestPatchGivesUpOnWhatIsUnlike(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clone")
	must(t, os.WriteFile(path, make([]byte, 10*pageSize), 0o600))
	out, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer out.Close()
	from, want := make([]byte, 10*pageSize), bytes.Repeat([]byte{1}, 10*pageSize)
	for page := range 4 {
		copy(want[page*pageSize:(page+1)*pageSize], from)
	}
	for most, fails := range map[int64]bool{5 * pageSize: true, 6 * pageSize: false} {
		err := patch(context.Background(), out, bytes.NewReader(want), bytes.NewReader(from), most)
		if errors.Is(err, errUnlike) != fails || err != nil && !fails {
			t.Errorf("at most %d pages: %v", most/pageSize, err)
		}
	}
}
