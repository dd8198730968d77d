package escape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode"
)

func TestEscape(t *testing.T) {
	for _, c := range []struct{ in, value, written string }{
		{"", "", ""},
		{"plain – größer, 漢字 ✓ \u0915\u094d\u200d\u0937 🙂", "plain – größer, 漢字 ✓ \u0915\u094d\u200d\u0937 🙂", ""},
		{"two\nlines\tand a tab", `two\nlines\tand a tab`, "two\nlines\tand a tab"},
		{"\x1b[31mred\x1b[0m", `\u001b[31mred\u001b[0m`, ""},
		{"\x1b]0;title\a", `\u001b]0;title\u0007`, ""},
		{"over\rwritten\b\x7f", `over\u000dwritten\u0008\u007f`, ""},
		{"C1: \u009b31m", `C1: \u009b31m`, ""},
		{"raw C1: \x9b31m", `raw C1: \x9b31m`, ""},
		{"cut: \xe2\x82", `cut: \xe2\x82`, ""},
		{"nul \x00", `nul \u0000`, ""},
		{"bidi \u202egpj.exe \u2066x\u2069 \u200f", `bidi \u202egpj.exe \u2066x\u2069 \u200f`, ""},
		{"lines \u2028 \u2029 \u0085", `lines \u2028 \u2029 \u0085`, ""},
		{"the real \ufffd", "the real \ufffd", ""},
	} {
		if c.written == "" {
			c.written = c.value
		}
		if got := String(c.in); got != c.value {
			t.Errorf("%q: %q", c.in, got)
		}
		var b bytes.Buffer
		if n, err := fmt.Fprint(Writer(&b), c.in); err != nil || n != len(c.in) || b.String() != c.written {
			t.Errorf("%q written: %q, %d, %v", c.in, b.String(), n, err)
		}
	}
}

// A document stays the same document, whatever its strings hold.
func TestJSONStaysTheSame(t *testing.T) {
	var all strings.Builder
	for r := rune(1); r < 0x3000; r++ {
		all.WriteRune(r)
	}
	data, err := json.MarshalIndent(map[string]string{"all": all.String()}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := Writer(&b).Write(data); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.String() {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			t.Errorf("%U is written raw", r)
		}
	}
	var back map[string]string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["all"] != all.String() {
		t.Errorf("the document has changed: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriterTellsOfFailure(t *testing.T) {
	if n, err := Writer(failing{}).Write([]byte("x")); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%d, %v", n, err)
	}
}

func FuzzString(f *testing.F) {
	f.Add("\x1b[2J\n\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range String(s) {
			if unicode.IsControl(r) {
				t.Errorf("%q holds %U", String(s), r)
			}
		}
	})
}
