package chroma

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestValidateMutations damages a sound directory in many ways. No damage may
// make the validator fail or panic; damage to a header, and a file that has
// become shorter, must always be found.
func TestValidateMutations(t *testing.T) {
	dir := unpack(t, "whole")
	segment := segmentOf(t, dir)
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	const rounds = 20
	for _, name := range append([]string{"../" + databaseName}, segmentFiles...) {
		path := filepath.Join(segment, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rounds {
			damaged, what, certain := damage(rnd, name, whole)
			if bytes.Equal(damaged, whole) {
				continue
			}
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			r := judge(t, dir)
			if r.Consistency != Consistent {
				found++
			} else if certain {
				t.Errorf("%s, round %d: %s was not found", name, i, what)
			}
			for _, f := range r.Errors {
				if f.Code == "" || f.Text == "" {
					t.Errorf("%s: %s: finding %+v", name, what, f)
				}
			}
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r := judge(t, dir); len(r.Errors) > 0 {
		t.Errorf("put back, and still: %v", r.Errors)
	}
	// Bytes of vectors and of unused links are not ours to judge.
	if found < rounds*len(segmentFiles)/2 {
		t.Errorf("only %d of %d kinds of damage were found", found, rounds*(len(segmentFiles)+1))
	}
}

// damage returns a damaged copy, and whether the validator has to notice.
func damage(rnd *rand.Rand, name string, whole []byte) (damaged []byte, what string, certain bool) {
	damaged = bytes.Clone(whole)
	at := rnd.IntN(len(whole))
	switch rnd.IntN(4) {
	case 0:
		return damaged[:at], fmt.Sprintf("cut at %d", at), true
	case 1:
		damaged[at] ^= 1 << rnd.IntN(8)
		// ef_construction (92) may be anything, and hnswlib may grow (12).
		return damaged, fmt.Sprintf("bit flipped at %d", at), name == headerName && at < 84 && (at < 12 || at >= 20)
	case 2:
		clear(damaged[at:min(len(whole), at+512)])
		return damaged, fmt.Sprintf("zeroes at %d", at), false
	}
	from := rnd.IntN(len(whole))
	copy(damaged[at:], whole[from:min(len(whole), from+64)])
	return damaged, fmt.Sprintf("64 bytes of %d at %d", from, at), false
}

// FuzzGraph feeds header.bin, data_level0.bin and link_lists.bin to their
// parsers: none may panic, read beyond what it was told, or allocate more than
// the files could hold.
func FuzzGraph(f *testing.F) {
	head, level0, links := tinySegment()
	f.Add(head, level0, links, uint16(1))
	f.Add(head, level0[:len(level0)/2], links[:6], uint16(1))
	f.Fuzz(func(t *testing.T, head, level0, links []byte, dimension uint16) {
		h, err := parseHeader(head, uint64(dimension))
		if err != nil || uint64(len(level0))%h.elementSize != 0 || uint64(len(level0))/h.elementSize < h.count {
			return
		}
		say := func(string, ...any) bool { return true }
		alive := newBitset(h.count)
		if err := checkLevel0(t.Context(), bytes.NewReader(level0), h, alive, say); err != nil {
			t.Fatalf("level 0 of the right size: %v", err)
		}
		if err := checkLinks(t.Context(), bytes.NewReader(links), h, say); err != nil && err != io.EOF &&
			err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	})
}

// tinySegment returns the files of a sound segment: two elements of one dimension,
// two neighbours, the first on level 1.
func tinySegment() (head, level0, links []byte) {
	const neighbors, vectorAt = 2, 4 + 4*4
	head = append(u32(1), u64(0)...)
	for _, n := range []uint64{4, 2, vectorAt + 4 + 8, vectorAt + 4, vectorAt} {
		head = append(head, u64(n)...)
	}
	head = append(append(head, u32(1)...), u32(0)...)
	for _, n := range []uint64{neighbors, 2 * neighbors, neighbors, math.Float64bits(1 / math.Log(neighbors)), 100} {
		head = append(head, u64(n)...)
	}
	for i := range uint32(2) {
		level0 = append(append(level0, u32(1)...), u32(1-i)...) // one link, to the other one
		level0 = append(append(level0, make([]byte, 12+4)...), u64(uint64(i)+1)...)
	}
	links = append(append(u32(12), make([]byte, 12)...), u32(0)...)
	return head, level0, links
}

func TestTinySegment(t *testing.T) {
	head, level0, links := tinySegment()
	h, err := parseHeader(head, 1)
	if err != nil {
		t.Fatal(err)
	}
	alive := newBitset(2)
	alive.add(1)
	alive.add(2)
	say := func(format string, args ...any) bool { t.Errorf(format, args...); return true }
	if err := checkLevel0(t.Context(), bytes.NewReader(level0), h, alive, say); err != nil {
		t.Error(err)
	}
	if err := checkLinks(t.Context(), bytes.NewReader(links), h, say); err != nil {
		t.Error(err)
	}
}
