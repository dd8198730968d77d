package chroma

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// The state of the older Python class, as protocol 2 with a memo writes it.
const classPickle = "\x80\x02cchromadb.segment.impl.vector.local_persistent_hnsw\nPersistentData\nq\x00)\x81q\x01}q\x02(" +
	"X\x0b\x00\x00\x00id_to_labelq\x03}q\x04X\x01\x00\x00\x00aq\x05K\x01s" +
	"X\x0b\x00\x00\x00label_to_idq\x06}q\x07K\x01h\x05s" +
	"X\x0a\x00\x00\x00max_seq_idq\x08\x8a\x05\x00\x00\x00\x00\x01" +
	"X\x14\x00\x00\x00total_elements_addedq\x09M\x01\x00ub."

// oneEntry is a protocol 4 pickle of a dictionary with the key k.
func oneEntry(value string) string {
	return "\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x8c\x01k" + value + "s."
}

func TestUnpickleClassInstance(t *testing.T) {
	d, err := unpickle(t.Context(), classPickle)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.get("max_seq_id"); got.num != 1<<32 {
		t.Errorf("max_seq_id = %+v, want %d", got, int64(1)<<32)
	}
	forward, back := d.get("id_to_label").dict, d.get("label_to_id").dict
	if forward == nil || back == nil || forward.get("a").num != 1 || back.pairs[0].val.str != "a" {
		t.Errorf("maps: %+v, %+v", forward, back)
	}
	if got := d.get("total_elements_added"); got.num != 1 {
		t.Errorf("total_elements_added = %+v", got)
	}
}

func TestUnpickleValues(t *testing.T) {
	for name, c := range map[string]struct {
		pickled string
		want    value
	}{
		"negative BININT":  {"J\xff\xff\xff\xff", value{kind: intValue, num: -1}},
		"negative LONG1":   {"\x8a\x01\x80", value{kind: intValue, num: -128}},
		"zero LONG1":       {"\x8a\x00", value{kind: intValue}},
		"widest LONG1":     {"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", value{kind: intValue, num: 1<<63 - 1}},
		"BININT1":          {"K\xff", value{kind: intValue, num: 255}},
		"BININT2":          {"M\xff\xff", value{kind: intValue, num: 65535}},
		"short string":     {"\x8c\x02ab", value{kind: stringValue, str: "ab"}},
		"long string":      {"X\x02\x00\x00\x00ab", value{kind: stringValue, str: "ab"}},
		"memoised":         {"\x8c\x01z\x94", value{kind: stringValue, str: "z"}},
		"none":             {"N", value{}},
		"empty tuple":      {")", value{kind: tupleValue}},
		"class as a value": {"\x8c\x01m\x8c\x01n\x93", value{kind: classValue}},
	} {
		d, err := unpickle(t.Context(), oneEntry(c.pickled))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := d.get("k"); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestUnpickleRefuses(t *testing.T) {
	doubling := "}q\x00\x8c\x01aK\x01s" + strings.Repeat("h\x00b", 60) + "."
	for name, c := range map[string]struct{ pickled, why string }{
		"nothing":                {"", "ends early"},
		"no end":                 {"}", "ends early"},
		"something after it":     {"}.x", "1 bytes after the end"},
		"no dictionary":          {"K\x01.", "no dictionary"},
		"empty stack":            {".", "ends early"},
		"string beyond the end":  {"}X\xff\xff\xff\xffa", "ends early"},
		"integer of 200 bytes":   {oneEntry("\x8a\xc8" + strings.Repeat("\x00", 200)), "200 bytes"},
		"REDUCE":                 {"cos\nsystem\n\x8c\x02ls\x85R.", "not one that Chroma writes"},
		"INST":                   {"(ios\nsystem\n.", "not one that Chroma writes"},
		"arguments for a class":  {"cos\nsystem\n}\x81.", "no class and empty arguments"},
		"GLOBAL without an end":  {"cos", "ends early"},
		"SETITEMS without mark":  {"}u.", "no mark"},
		"half an item":           {"}(K\x01u.", "no dictionary below"},
		"items for no one":       {"(K\x01K\x02u.", "no dictionary below"},
		"mark above the stack":   {"}K\x01K\x02(su.", "no dictionary below"},
		"memo that is not there": {"h\x05.", "nothing is remembered"},
		"hole in the memo":       {"}r\xff\xff\xff\x7f.", "after 0 others"},
		"protocol 9":             {"\x80\x09}.", "protocol 9"},
		"state that is a number": {"}K\x01b.", "no state"},
		"doubling state":         {doubling, "more values"},
		"a heap of nothing":      {"}" + strings.Repeat("N", 20000) + ".", "more values"},
		"a heap of marks":        {"}" + strings.Repeat("(", 20000) + ".", "more values"},
		"a nest of dictionaries": {strings.Repeat("}", 20000) + ".", "more values"},
	} {
		if _, err := unpickle(t.Context(), c.pickled); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: error %v, want %q in it", name, err, c.why)
		}
	}
}

// FuzzUnpickle looks for a pickle that panics, or that makes more of itself
// than its length allows.
func FuzzUnpickle(f *testing.F) {
	f.Add([]byte(classPickle))
	f.Add([]byte(oneEntry("K\x01")))
	f.Add([]byte("}q\x00\x8c\x01aK\x01sh\x00bh\x00b."))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := unpickle(t.Context(), string(data))
		if err == nil && len(d.pairs) > len(data)/2+pickleValueSlack {
			t.Fatalf("%d bytes became %d pairs", len(data), len(d.pairs))
		}
	})
}

// What costs two bytes in a pickle must not cost forty in memory for each.
func TestPickleOfNothings(t *testing.T) {
	if _, err := unpickle(t.Context(), "\x80\x03}("+strings.Repeat("N", 1<<20)); err == nil ||
		!strings.Contains(err.Error(), "more values than its length can hold") {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := unpickle(ended, "\x80\x03}"+strings.Repeat("q\x00", 1<<20)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}
