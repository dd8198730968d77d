package offsite_test

import (
	"context"
	"errors"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// Each file-changing call on this machine fails in turn, until none is left to
// fail. Whatever came of it, the next attempt is right, and so is the next day.
func TestLocalFaults(t *testing.T) {
	r, s := newRig(t), newStore(30)
	s.files = map[string][]byte{"db/atocore.db": text(1, 100<<10), "chroma/seg/length.bin": noise(1, 30<<10)}
	src := r.take(s, stampOf(0), true)
	fsxtest.EachFailure(t, func() error {
		_, err := r.vault.Push(context.Background(), src, r.pushOptions())
		return err
	}, func(k int, at string, err error) {
		if !errors.Is(err, fsxtest.ErrInjected) {
			t.Fatalf("call %d, %s: %v", k, at, err)
		}
		r.push(src)
		r.wantPull(src)
		s.day()
		src = r.take(s, stampOf(k), true) // what the next failure meets
	})
}
