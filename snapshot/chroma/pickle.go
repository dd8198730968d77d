package chroma

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Limits of the pickle parser. A pickle may come from somebody else's disk, so
// what it can make this process allocate is bounded by its own length.
const (
	maxPickleBytes = 128 << 20 // more than a million vectors of one collection
	// Of a pickle with many entries each value takes five bytes or more, with the
	// shortest names; this allows one for four bytes, and some slack for the
	// smallest pickles.
	pickleValueBytes = 4
	pickleValueSlack = 4096
	// How many opcodes are read between two looks at the context.
	pickleLook = 1 << 16
)

// valueKind tells what a pickled value is.
type valueKind uint8

const (
	noneValue valueKind = iota
	intValue
	stringValue
	dictValue
	tupleValue // always empty: the arguments of a class without any
	classValue // a name only; nothing is ever constructed from it
)

// value is one unpickled value. Strings point into the pickle's own bytes and
// dictionaries are shared, so that values are small and copying them is cheap.
type value struct {
	kind valueKind
	num  int64
	str  string
	dict *dict
}

// dict keeps its pairs in the order in which they were set; a key that is set
// twice is there twice, and the later one counts.
type dict struct{ pairs []pair }

type pair struct{ key, val value }

// get returns the value of a string key, or a value of kind noneValue.
func (d *dict) get(key string) value {
	for i := len(d.pairs) - 1; i >= 0; i-- {
		if p := d.pairs[i]; p.key.kind == stringValue && p.key.str == key {
			return p.val
		}
	}
	return value{}
}

// unpickler is a machine for the few opcodes that Chroma's pickles are made of:
// protocol 3 with one plain dictionary (the server written in Rust), and a class
// instance whose state is that dictionary (the older one in Python). It runs no
// code, looks nothing up by name, and every other opcode is an error.
type unpickler struct {
	data  string
	pos   int
	stack []value
	marks []int
	memo  []value
	left  int // values that may still be made
}

var errPickleShort = errors.New("it ends early")

// unpickle returns the dictionary that data holds.
func unpickle(ctx context.Context, data string) (*dict, error) {
	if len(data) > maxPickleBytes {
		return nil, fmt.Errorf("it has more than %d MiB", maxPickleBytes>>20)
	}
	u := &unpickler{data: data, left: len(data)/pickleValueBytes + pickleValueSlack}
	for n := 1; ; n++ {
		if n%pickleLook == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		at := u.pos
		op, err := u.byte()
		if err != nil {
			return nil, err
		}
		if op == '.' {
			break
		}
		if err := u.step(op); err != nil {
			return nil, fmt.Errorf("byte %d: opcode 0x%02x: %w", at, op, err)
		}
	}
	if extra := len(data) - u.pos; extra > 0 {
		return nil, fmt.Errorf("%d bytes after the end", extra)
	}
	v, err := u.pop()
	if err != nil {
		return nil, err
	}
	if v.kind != dictValue {
		return nil, errors.New("it holds no dictionary")
	}
	return v.dict, nil
}

// step carries out one opcode.
func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.byte()
		if err == nil && (v < 2 || v > 5) {
			err = fmt.Errorf("protocol %d", v)
		}
		return err
	case 0x95: // FRAME
		_, err := u.bytes(8)
		return err
	case '(': // MARK
		u.marks = append(u.marks, len(u.stack))
		return u.spend(1)
	case 'N', '}', ')', 'X', 0x8c, 'J', 'K', 'M', 0x8a:
		return u.literal(op)
	case 'u', 's', 'b':
		return u.fill(op)
	case 0x94, 'q', 'r', 'h', 'j':
		return u.remember(op)
	case 'c', 0x93, 0x81:
		return u.class(op)
	}
	return errors.New("not one that Chroma writes")
}

// literal pushes a constant or an empty container.
func (u *unpickler) literal(op byte) error {
	switch op {
	case 'N': // NONE
		return u.push(value{})
	case '}': // EMPTY_DICT
		return u.push(value{kind: dictValue, dict: &dict{}})
	case ')': // EMPTY_TUPLE
		return u.push(value{kind: tupleValue})
	case 'X': // BINUNICODE
		return u.text(4)
	case 0x8c: // SHORT_BINUNICODE
		return u.text(1)
	case 'J': // BININT, signed
		n, err := u.uint(4)
		return errors.Join(err, u.push(value{kind: intValue, num: int64(int32(n))}))
	case 'K': // BININT1
		n, err := u.uint(1)
		return errors.Join(err, u.push(value{kind: intValue, num: int64(n)}))
	case 'M': // BININT2
		n, err := u.uint(2)
		return errors.Join(err, u.push(value{kind: intValue, num: int64(n)}))
	}
	return u.long() // LONG1
}

// long pushes a LONG1: a length and that many bytes of two's complement.
func (u *unpickler) long() error {
	size, err := u.byte()
	if err != nil {
		return err
	}
	if size > 8 {
		return fmt.Errorf("an integer of %d bytes", size)
	}
	raw, err := u.uint(int(size))
	if err != nil {
		return err
	}
	if size == 0 {
		return u.push(value{kind: intValue})
	}
	shift := 64 - 8*uint(size)
	return u.push(value{kind: intValue, num: int64(raw<<shift) >> shift})
}

// text pushes a string whose length stands in the next width bytes.
func (u *unpickler) text(width int) error {
	size, err := u.uint(width)
	if err != nil {
		return err
	}
	s, err := u.bytes(size)
	if err != nil {
		return err
	}
	return u.push(value{kind: stringValue, str: s})
}

// fill puts values into the dictionary below them.
func (u *unpickler) fill(op byte) error {
	switch op {
	case 's': // SETITEM
		if len(u.stack) < 3 {
			return errPickleShort
		}
		return u.setItems(len(u.stack) - 2)
	case 'u': // SETITEMS, down to the last mark
		if len(u.marks) == 0 {
			return errors.New("no mark")
		}
		from := u.marks[len(u.marks)-1]
		u.marks = u.marks[:len(u.marks)-1]
		return u.setItems(from)
	}
	// BUILD: the state of an instance becomes its attributes.
	state, err := u.pop()
	if err != nil {
		return err
	}
	if state.kind != dictValue || len(u.stack) == 0 || u.stack[len(u.stack)-1].kind != dictValue {
		return errors.New("no state, or nothing to give it to")
	}
	// An instance that is its own state would double with every BUILD.
	if err := u.spend(2 * len(state.dict.pairs)); err != nil {
		return err
	}
	instance := u.stack[len(u.stack)-1].dict
	instance.pairs = append(instance.pairs, state.dict.pairs...)
	return nil
}

func (u *unpickler) setItems(from int) error {
	if from < 1 || from > len(u.stack) || (len(u.stack)-from)%2 != 0 || u.stack[from-1].kind != dictValue {
		return errors.New("no dictionary below the items")
	}
	d, items := u.stack[from-1].dict, u.stack[from:]
	if cap(d.pairs) == 0 {
		d.pairs = make([]pair, 0, len(items)/2)
	}
	for i := 0; i < len(items); i += 2 {
		d.pairs = append(d.pairs, pair{items[i], items[i+1]})
	}
	u.stack = u.stack[:from]
	return nil
}

// remember moves values between the top of the stack and the memo.
func (u *unpickler) remember(op byte) error {
	index, err := len(u.memo), error(nil)
	switch op {
	case 'q', 'h': // BINPUT, BINGET
		index, err = u.uintIndex(1)
	case 'r', 'j': // LONG_BINPUT, LONG_BINGET
		index, err = u.uintIndex(4)
	}
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' {
		if index >= len(u.memo) {
			return fmt.Errorf("nothing is remembered as %d", index)
		}
		return u.push(u.memo[index])
	}
	if len(u.stack) == 0 {
		return errPickleShort
	}
	top := u.stack[len(u.stack)-1]
	switch {
	case index < len(u.memo):
		u.memo[index] = top
		return nil
	case index > len(u.memo): // Python numbers them without holes
		return fmt.Errorf("remembered as %d after %d others", index, len(u.memo))
	}
	u.memo = append(u.memo, top)
	return u.spend(1)
}

// class handles the few opcodes around an instance. A class is only a
// placeholder, and its instance an empty dictionary.
func (u *unpickler) class(op byte) error {
	switch op {
	case 'c': // GLOBAL: module and name, a line each
		if err := errors.Join(u.line(), u.line()); err != nil {
			return err
		}
		return u.push(value{kind: classValue})
	case 0x93: // STACK_GLOBAL: module and name from the stack
		if len(u.stack) < 2 {
			return errPickleShort
		}
		u.stack = u.stack[:len(u.stack)-2]
		return u.push(value{kind: classValue})
	}
	// NEWOBJ: class and arguments
	if len(u.stack) < 2 || u.stack[len(u.stack)-2].kind != classValue || u.stack[len(u.stack)-1].kind != tupleValue {
		return errors.New("no class and empty arguments")
	}
	u.stack = u.stack[:len(u.stack)-2]
	return u.push(value{kind: dictValue, dict: &dict{}})
}

func (u *unpickler) push(v value) error {
	u.stack = append(u.stack, v)
	return u.spend(1)
}

func (u *unpickler) pop() (value, error) {
	if len(u.stack) == 0 {
		return value{}, errPickleShort
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	return v, nil
}

// spend counts what has been kept, so that memory stays in proportion.
func (u *unpickler) spend(n int) error {
	if u.left -= n; u.left < 0 {
		return errors.New("more values than its length can hold")
	}
	return nil
}

func (u *unpickler) byte() (byte, error) {
	if u.pos >= len(u.data) {
		return 0, errPickleShort
	}
	u.pos++
	return u.data[u.pos-1], nil
}

func (u *unpickler) bytes(n uint64) (string, error) {
	if n > uint64(len(u.data)-u.pos) {
		return "", errPickleShort
	}
	s := u.data[u.pos : u.pos+int(n)]
	u.pos += int(n)
	return s, nil
}

// uint reads a little-endian number of up to eight bytes.
func (u *unpickler) uint(width int) (uint64, error) {
	s, err := u.bytes(uint64(width))
	var n uint64
	for i := len(s) - 1; i >= 0; i-- {
		n = n<<8 | uint64(s[i])
	}
	return n, err
}

func (u *unpickler) uintIndex(width int) (int, error) {
	n, err := u.uint(width)
	if err == nil && n > math.MaxInt32 {
		err = fmt.Errorf("memo index %d", n)
	}
	return int(n), err
}

func (u *unpickler) line() error {
	for {
		b, err := u.byte()
		if err != nil || b == '\n' {
			return err
		}
	}
}
