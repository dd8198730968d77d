package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// TestGather holds the bytes and digests of bodies of each size against the source's,
// read twice, as the library does when it sends again.
func TestGather(t *testing.T) {
	piece := len(block{})
	all := make([]byte, inMemory+3*piece)
	rand.NewChaCha8([32]byte{1}).Read(all)
	for _, size := range []int{
		0, 1, piece - 1, piece, piece + 1, 8*piece + 5, inMemory - 1, inMemory, inMemory + 1, len(all),
	} {
		for how, src := range map[string]io.Reader{
			"plain":             bytes.NewReader(all[:size]),
			"halves":            iotest.HalfReader(bytes.NewReader(all[:size])),
			"end with the data": iotest.DataErrReader(bytes.NewReader(all[:size])),
		} {
			t.Run(fmt.Sprintf("%d bytes, %s", size, how), func(t *testing.T) {
				b, err := gather(context.Background(), src)
				if err != nil {
					t.Fatal(err)
				}
				defer b.release()
				for range 2 {
					got, err := io.ReadAll(b.reader())
					if err != nil || !bytes.Equal(got, all[:size]) {
						t.Fatalf("%d bytes (%v), of %d", len(got), err, size)
					}
				}
				digest, sum := md5.Sum(all[:size]), sha256.Sum256(all[:size])
				if b.size != int64(size) || !bytes.Equal(b.md5, digest[:]) || !bytes.Equal(b.sha256, sum[:]) {
					t.Errorf("size %d of %d, or another digest", b.size, size)
				}
			})
		}
	}
}

// TestGatherFails wants a source's error, never a body that ends before it.
func TestGatherFails(t *testing.T) {
	for _, size := range []int{0, 1, len(block{}), inMemory, inMemory + 1} {
		for _, want := range []error{errors.New("rotten"), io.ErrUnexpectedEOF} {
			src := io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(want))
			if b, err := gather(context.Background(), src); !errors.Is(err, want) {
				t.Errorf("after %d bytes: %v, want %v (body %v)", size, err, want, b)
			}
		}
	}
}
