package sftp

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// BenchmarkPut stores objects of the size of a pack, one after the other.
func BenchmarkPut(b *testing.B) {
	const size = 8 << 20
	s := sshdtest.Start(b, sshdtest.Options{})
	r, err := Dial(context.Background(), configFor(s))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.SetBytes(size)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := r.Put(context.Background(), fmt.Sprintf("packs/%d", i), random(size)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen reads such an object.
func BenchmarkOpen(b *testing.B) {
	const size = 8 << 20
	s := sshdtest.Start(b, sshdtest.Options{})
	r, err := Dial(context.Background(), configFor(s))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Put(context.Background(), "packs/one", random(size)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		f, err := r.Open(context.Background(), "packs/one")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, f); err != nil || n != size {
			b.Fatal(n, err)
		}
		f.Close()
	}
}
