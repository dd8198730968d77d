package chroma

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Limits of what a segment may say about itself before it is believed. They
// keep the products below from overflowing and are far above what Chroma makes.
const (
	headerBytes  = 100
	maxDimension = 1 << 20
	maxNeighbors = 1 << 16
	// A header version up to this one that is not 1 is taken for a format to
	// come; anything else is damage.
	maxPlausibleVersion = 999
)

// errNewerFormat says that a segment may be fine but is not ours to judge.
var errNewerFormat = errors.New("a newer format")

// header is header.bin: the shape of an HNSW index as hnswlib persists it.
type header struct {
	capacity    uint64 // elements that memory was reserved for
	count       uint64 // elements in the files, deleted ones included
	elementSize uint64 // bytes of an element in data_level0.bin
	labelAt     uint64 // where in an element its label stands
	maxLevel    uint64 // level of the entry point
	entry       uint64 // element at which searches begin
	neighbors   uint64 // links of an element on each level above 0
	neighbors0  uint64 // links of an element on level 0
}

// linkBlock is the size of one level's block in link_lists.bin.
func (h header) linkBlock() uint64 { return 4 + 4*h.neighbors }

// parseHeader reads header.bin of a collection with the given dimension and
// checks everything that follows from the dimension.
func parseHeader(b []byte, dimension uint64) (header, error) {
	if len(b) != headerBytes {
		return header{}, fmt.Errorf("it has %d bytes, not %d", len(b), headerBytes)
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	version := int32(binary.LittleEndian.Uint32(b))
	if version > 1 && version <= maxPlausibleVersion {
		return header{}, fmt.Errorf("version %d: %w", version, errNewerFormat)
	}
	if version != 1 || u64(4) != 0 {
		return header{}, fmt.Errorf("version %d, level 0 at %d", version, u64(4))
	}
	if dimension < 1 || dimension > maxDimension {
		return header{}, fmt.Errorf("its collection has dimension %d", dimension)
	}
	h := header{
		capacity: u64(12), count: u64(20), elementSize: u64(28), labelAt: u64(36),
		maxLevel: uint64(binary.LittleEndian.Uint32(b[52:])), entry: uint64(binary.LittleEndian.Uint32(b[56:])),
		neighbors: u64(60), neighbors0: u64(68),
	}
	if h.neighbors < 1 || h.neighbors > maxNeighbors || h.neighbors0 != 2*h.neighbors || u64(76) != h.neighbors {
		return header{}, fmt.Errorf("%d, %d and %d neighbours", h.neighbors, h.neighbors0, u64(76))
	}
	vectorAt := 4 + 4*h.neighbors0
	if u64(44) != vectorAt || h.labelAt != vectorAt+4*dimension || h.elementSize != h.labelAt+8 {
		return header{}, fmt.Errorf(
			"elements of %d bytes (vector at %d, label at %d) do not fit dimension %d",
			h.elementSize,
			u64(44),
			h.labelAt,
			dimension,
		)
	}
	// With one neighbour the factor is infinite; it is not worth a check then.
	factor := math.Float64frombits(u64(84))
	if want := 1 / math.Log(float64(h.neighbors)); h.neighbors > 1 && !(math.Abs(factor-want) <= 1e-9) {
		return header{}, fmt.Errorf("level factor %g for %d neighbours", factor, h.neighbors)
	}
	if h.count > h.capacity || h.count > math.MaxUint32 || h.entry >= h.count || h.maxLevel > math.MaxInt32 {
		return header{}, fmt.Errorf(
			"%d of %d elements, entry point %d on level %d",
			h.count,
			h.capacity,
			h.entry,
			int32(h.maxLevel),
		)
	}
	return h, nil
}
