package main

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize/english"

	"github.com/atocore/atobackupd/internal/escape"
)

// column is one column of a table.
type column struct {
	title string
	// drop says which column is left out first where the width does not suffice,
	// the lowest first; 0 is never.
	drop int
	// wrap lets its text go on in the next line.
	wrap bool
	// least is the width below which columns that can be left out go first, where
	// that is more than minWrap.
	least int
	// right aligns it to the right, as numbers are.
	right bool
}

// table lays text out in columns for people, within a given width, whether it
// is read on a terminal or through a pipe.
type table struct {
	columns []column
	rows    [][]string
}

func newTable(columns ...column) *table { return &table{columns: columns} }

// row adds a line. What others wrote in a cell stays in its line.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = escape.String(cell)
	}
	t.rows = append(t.rows, cells)
}

// count says how many: "1 snapshot", "2 snapshots".
func count(n int, noun string) string { return english.Plural(n, noun, "") }

const (
	gap     = "  "
	minWrap = 20 // the least width of a column that wraps
)

// print writes the table, at most width columns wide where that can be done by
// leaving columns out and wrapping others.
func (t *table) print(w io.Writer, width int) {
	if len(t.rows) == 0 {
		return
	}
	widths := t.fit(width)
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
	}
	t.line(w, titles, widths)
	for _, row := range t.rows {
		t.line(w, row, widths)
	}
}

// fit returns the width of each column; 0 leaves it out.
func (t *table) fit(width int) []int {
	widths := make([]int, len(t.columns))
	total := -len(gap)
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.title)
		filled := false
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
			filled = filled || row[i] != ""
		}
		if !filled && c.drop > 0 { // an empty column says nothing
			widths[i] = 0
			continue
		}
		total += widths[i] + len(gap)
	}
	for total > width {
		at := -1
		for i, c := range t.columns {
			if c.drop > 0 && widths[i] > 0 && (at < 0 || c.drop < t.columns[at].drop) {
				at = i
			}
		}
		if at < 0 || t.slack(widths) >= total-width {
			break
		}
		total -= widths[at] + len(gap)
		widths[at] = 0
	}
	for i, c := range t.columns {
		if c.wrap && total > width {
			give := min(total-width, max(0, widths[i]-minWrap))
			widths[i] -= give
			total -= give
		}
	}
	return widths
}

// slack is how much narrower the columns that wrap can become before others go.
func (t *table) slack(widths []int) (n int) {
	for i, c := range t.columns {
		if c.wrap {
			n += max(0, widths[i]-max(minWrap, c.least))
		}
	}
	return n
}

func (t *table) line(w io.Writer, cells []string, widths []int) {
	lines := make([][]string, len(cells))
	height := 1
	for i, cell := range cells {
		lines[i] = []string{cell}
		if widths[i] > 0 && t.columns[i].wrap {
			lines[i] = wrapText(cell, widths[i])
		}
		if widths[i] > 0 {
			height = max(height, len(lines[i]))
		}
	}
	for n := range height {
		var b strings.Builder
		for i := range cells {
			if widths[i] == 0 {
				continue
			}
			text := ""
			if n < len(lines[i]) {
				text = lines[i][n]
			}
			pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(text)))
			if t.columns[i].right {
				text, pad = pad+text, ""
			}
			b.WriteString(text + pad + gap)
		}
		_, _ = io.WriteString(w, strings.TrimRight(b.String(), " ")+"\n")
	}
}

// wrapText breaks text at spaces into lines of at most width runes; a longer
// word is broken where it must be, a path after a slash.
func wrapText(text string, width int) (lines []string) {
	var words []string
	for _, word := range strings.Fields(text) {
		for utf8.RuneCountInString(word) > width {
			runes := []rune(word)
			head := string(runes[:width])
			if slash := strings.LastIndexByte(head, '/'); slash > 0 {
				head = head[:slash+1]
			}
			words, word = append(words, head), word[len(head):]
		}
		words = append(words, word)
	}
	return fill(words, width, width)
}

// fill puts words into lines of at most width runes, or first in the first line. A
// longer word has a line of its own.
func fill(words []string, first, width int) (lines []string) {
	line, room := "", first
	for _, word := range words {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= room:
			line += " " + word
		default:
			lines = append(lines, line)
			line, room = word, width
		}
	}
	return append(lines, line)
}
