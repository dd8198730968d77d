package main

import (
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// A table fits its width: columns are left out in their order, then text wraps.
func TestTableFits(t *testing.T) {
	build := func() *table {
		tb := newTable(column{title: "STAMP"}, column{title: "OLD", drop: 2, right: true},
			column{title: "EXTRA", drop: 1},
			column{title: "EMPTY", drop: 3}, column{title: "MESSAGE", wrap: true})
		tb.row("20260407T060000Z", "3h", "extra words", "",
			"a sentence that is much longer than one line of eighty columns can hold")
		tb.row("20260408T060000Z", "300d", "", "",
			"/a/path/without/any/space/that/is/longer/than/its/column/can/ever/be/and/then/some")
		return tb
	}
	for _, c := range []struct {
		width      int
		has, hasNo string
	}{
		{200, "EXTRA", "EMPTY"},
		{80, "EXTRA", "EMPTY"},
		{52, "OLD", "EXTRA"},
		{40, "STAMP", "OLD"},
	} {
		var out strings.Builder
		build().print(&out, c.width)
		text := out.String()
		for _, line := range strings.Split(text, "\n") {
			if utf8.RuneCountInString(line) > c.width || strings.HasSuffix(line, " ") {
				t.Errorf("at %d columns: %q", c.width, line)
			}
		}
		if !strings.Contains(text, c.has) || strings.Contains(text, c.hasNo) {
			t.Errorf("at %d columns, with %s and without %s:\n%s", c.width, c.has, c.hasNo, text)
		}
		joined := strings.Join(strings.Fields(text), "")
		if !strings.Contains(joined, "columnscanhold") && c.width > 80 {
			t.Errorf("text is lost:\n%s", text)
		}
	}
	var out strings.Builder
	build().print(&out, 200)
	want := "STAMP              OLD  EXTRA        MESSAGE\n20260407T060000Z    3h  extra words  a sentence"
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("it reads\n%s", out.String())
	}
}

// Columns go before a text that needs room for itself wraps.
func TestTableKeepsTheLeastWidth(t *testing.T) {
	for _, c := range []struct {
		least int
		want  string
	}{
		{0, "EXTRA  STAMP\n    a  a reason that is as\n       long as this\n"},
		{30, "STAMP\na reason that is as long as\nthis\n"},
	} {
		tb := newTable(column{title: "EXTRA", drop: 1, right: true}, column{title: "STAMP", wrap: true, least: c.least})
		tb.row("a", "a reason that is as long as this")
		var out strings.Builder
		tb.print(&out, 27)
		if got := out.String(); got != c.want {
			t.Errorf("least %d:\n%s", c.least, got)
		}
	}
}

func TestWrapText(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 5, ""},
		{"one two three", 7, "one two|three"},
		{"one two", 3, "one|two"},
		{"abcdefgh ij", 3, "abc|def|gh|ij"},
		{"ä ö ü", 3, "ä ö|ü"},
		{"at /srv/storage/atocore/data/db/atocore.db", 20, "at /srv/storage/|atocore/data/db/|atocore.db"},
	} {
		if got := strings.Join(wrapText(c.text, c.width), "|"); got != c.want {
			t.Errorf("wrapText(%q, %d) = %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// Colour is put on the words that say how things stand, and only at the begin of
// a line or column.
func TestColoured(t *testing.T) {
	var out strings.Builder
	_, _ = coloured{&out}.Write([]byte("critical: x\nS  valid  is valid\nwarning: ok\n"))
	want := "\x1b[1;31mcritical\x1b[0m: x\nS  \x1b[32mvalid\x1b[0m  is valid\n\x1b[33mwarning\x1b[0m: ok\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	t.Setenv("COLUMNS", "123")
	c := &cli{stdout: &out}
	if c.width() != 123 {
		t.Errorf("width %d with COLUMNS=123", c.width())
	}
	t.Setenv("COLUMNS", "")
	out.Reset()
	c.rawStdout = &out
	_, _ = io.WriteString(c.people(), "critical: x\n")
	if c.width() != defaultWidth || out.String() != "critical: x\n" {
		t.Errorf("a pipe is coloured, or not 80 columns wide: %q", out.String())
	}
}
