package config

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Duration is a span of time as an operator writes it: "90s", "15m", "26h",
// "8d", "2w", or several together, largest first or not: "1h30m". A day is 24
// hours. "" and "0" are zero. Fractions, signs and bare numbers are refused: a
// bare 15 could be meant in any unit.
type Duration time.Duration

var durationUnits = []struct {
	name string
	size time.Duration
}{
	{"d", day},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
}

// ParseDuration parses what Duration describes.
func ParseDuration(text string) (Duration, error) {
	if text == "" || text == "0" {
		return 0, nil
	}
	var total time.Duration
	for rest := text; rest != ""; {
		digits := leading(rest, isDigit)
		unit := leading(rest[len(digits):], isLetter)
		size, known := unitSize(unit)
		count, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || !known || count > (math.MaxInt64-int64(total))/int64(size) {
			return 0, fmt.Errorf("%q is no duration such as 90s, 15m, 26h or 8d", text)
		}
		total += time.Duration(count) * size
		rest = rest[len(digits)+len(unit):]
	}
	return Duration(total), nil
}

func unitSize(name string) (time.Duration, bool) {
	if name == "w" {
		return 7 * day, true
	}
	for _, unit := range durationUnits {
		if unit.name == name {
			return unit.size, true
		}
	}
	return 0, false
}

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns d in the largest unit that divides it: "8d", "26h", "90s".
func (d Duration) String() string {
	if d == 0 {
		return "0"
	}
	for _, unit := range durationUnits {
		if time.Duration(d)%unit.size == 0 {
			return strconv.FormatInt(int64(time.Duration(d)/unit.size), 10) + unit.name
		}
	}
	return time.Duration(d).String()
}

// UnmarshalText parses what Duration describes.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// MarshalText returns what String returns.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// leading returns the longest prefix of text whose bytes are all in class.
func leading(text string, class func(byte) bool) string {
	end := 0
	for end < len(text) && class(text[end]) {
		end++
	}
	return text[:end]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// Limit is a span of time that can be turned off: a Duration, or "off". "0s" and
// "" are refused, since an operator may mean by them "at once" as well as
// "never". The zero value was never set and counts as off.
type Limit time.Duration

// Off is the limit that never ends.
const Off Limit = -1

// Std returns l as the standard library's type; 0 is off.
func (l Limit) Std() time.Duration { return max(0, time.Duration(l)) }

// String returns l as a configuration writes it.
func (l Limit) String() string {
	if l <= 0 {
		return "off"
	}
	return Duration(l).String()
}

// UnmarshalText parses what Limit describes.
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*l = Off
		return nil
	}
	d, err := ParseDuration(string(text))
	if err == nil && d == 0 {
		err = fmt.Errorf("%q is no limit: write \"off\" to turn it off", text)
	}
	*l = Limit(d)
	return err
}

// MarshalText returns what String returns.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }
