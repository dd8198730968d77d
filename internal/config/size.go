package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes as an operator writes it: "512MiB", "1GiB", or
// plain bytes. "" and "0" are zero. The units are B, KiB, MiB, GiB and TiB, by
// powers of 1024; MB and its like are refused because people disagree about
// what they mean.
type Size int64

var sizeUnits = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"B", 1},
	{"", 1},
}

// ParseSize parses what Size describes.
func ParseSize(text string) (Size, error) {
	if text == "" {
		return 0, nil
	}
	digits := leading(text, isDigit)
	name := strings.TrimPrefix(text[len(digits):], " ")
	for _, unit := range sizeUnits {
		if unit.name != name {
			continue
		}
		count, err := strconv.ParseInt(digits, 10, 64)
		if err == nil && count <= math.MaxInt64/unit.size {
			return Size(count * unit.size), nil
		}
	}
	return 0, fmt.Errorf("%q is no size such as 512MiB or 1GiB", text)
}

// Bytes returns s as a plain number.
func (s Size) Bytes() int64 { return int64(s) }

// String returns s in the largest unit that divides it: "512MiB"; odd numbers of
// bytes have no unit.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && int64(s)%unit.size == 0 && unit.size > 1 {
			return strconv.FormatInt(int64(s)/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalText parses what Size describes.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// MarshalText returns what String returns.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
