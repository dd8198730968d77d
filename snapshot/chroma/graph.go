package chroma

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// These read the two large files of a segment as streams: what they keep is one
// element and one bit per label, and they have been told sizes that were
// checked against the file's own before.

const (
	streamBuffer = 1 << 20
	ctxEvery     = 4096 // elements between two looks at the context
)

// bitset is a set of labels 1..n.
type bitset []uint64

func newBitset(n uint64) bitset        { return make(bitset, n/64+1) }
func (b bitset) has(label uint64) bool { return b[label/64]&(1<<(label%64)) != 0 }
func (b bitset) add(label uint64)      { b[label/64] |= 1 << (label % 64) }

// errMany ends a walk over elements when enough has been said.
var errMany = errors.New("too many problems")

// checkLevel0 reads the h.count elements of data_level0.bin: a u16 count of
// links, a u8 of flags (bit 0: deleted), a u8 of padding, the links, the
// vector, and a u64 label. alive holds the labels that the pickle names. Each
// problem is given to say, which returns false when it has heard enough. The
// error is one of reading.
func checkLevel0(
	ctx context.Context,
	r io.Reader,
	h header,
	alive bitset,
	say func(format string, args ...any) bool,
) error {
	in := bufio.NewReaderSize(r, streamBuffer)
	element := make([]byte, h.elementSize)
	found := newBitset(h.count)
	for i := uint64(0); i < h.count; i++ {
		if i%ctxEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := io.ReadFull(in, element); err != nil {
			return err
		}
		links := uint64(binary.LittleEndian.Uint16(element))
		deleted := element[2]&1 != 0
		label := binary.LittleEndian.Uint64(element[h.labelAt:])
		problem := linkProblem(element[4:], links, h.neighbors0, h.count)
		switch {
		case problem != "":
		case label < 1 || label > h.count:
			problem = fmt.Sprintf("has label %d of %d", label, h.count)
		case found.has(label):
			problem = fmt.Sprintf("has label %d, as another one does", label)
		case deleted && alive.has(label):
			problem = fmt.Sprintf("has label %d, deleted here and alive in %s", label, pickleName)
		case !deleted && !alive.has(label):
			problem = fmt.Sprintf("has label %d, alive here and absent from %s", label, pickleName)
		}
		if problem != "" && !say("%s: element %d %s", level0Name, i, problem) {
			return errMany
		}
		if label >= 1 && label <= h.count {
			found.add(label)
		}
	}
	for label := uint64(1); label <= h.count; label++ {
		if alive.has(label) && !found.has(label) &&
			!say("%s: label %d of %s is absent", level0Name, label, pickleName) {
			return errMany
		}
	}
	return nil
}

// checkLinks reads link_lists.bin: for every element a u32 byte count and that
// many bytes, one block for each level above 0.
func checkLinks(ctx context.Context, r io.Reader, h header, say func(format string, args ...any) bool) error {
	in := bufio.NewReaderSize(r, streamBuffer)
	block := make([]byte, h.linkBlock())
	var size [4]byte
	for i := uint64(0); i < h.count; i++ {
		if i%ctxEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		n := uint64(binary.LittleEndian.Uint32(size[:]))
		levels := n / h.linkBlock()
		if n%h.linkBlock() != 0 || levels > h.maxLevel {
			// Where the next element begins is not known from here on.
			say(
				"%s: element %d has %d bytes of links, %d a level and at most %d levels",
				linksName,
				i,
				n,
				h.linkBlock(),
				h.maxLevel,
			)
			return nil
		}
		if i == h.entry && levels != h.maxLevel &&
			!say("%s: entry point %d has level %d, not %d", linksName, i, levels, h.maxLevel) {
			return errMany
		}
		for level := uint64(1); level <= levels; level++ {
			if level%ctxEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := io.ReadFull(in, block); err != nil {
				return err
			}
			links := uint64(binary.LittleEndian.Uint16(block))
			if problem := linkProblem(block[4:], links, h.neighbors, h.count); problem != "" &&
				!say("%s: element %d %s on level %d", linksName, i, problem, level) {
				return errMany
			}
		}
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		say("%s: it goes on after %d elements", linksName, h.count)
	}
	return nil
}

// linkProblem looks at the first links of a list and says what is wrong.
func linkProblem(list []byte, links, most, count uint64) string {
	if links > most {
		return fmt.Sprintf("has %d links, more than %d", links, most)
	}
	for k := uint64(0); k < links; k++ {
		if to := uint64(binary.LittleEndian.Uint32(list[4*k:])); to >= count {
			return fmt.Sprintf("links to element %d of %d", to, count)
		}
	}
	return ""
}
