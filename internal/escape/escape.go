// Package escape keeps what others wrote from acting on a terminal or a log: the
// names of files and tables, documents, and errors that quote them may hold
// control characters, which move the cursor, change colours or the window's
// title, answer as if the operator had typed, or begin a line that looks like
// ours.
//
// A Writer stands before everything that people read; it leaves line breaks and
// tabs, which are the layout. String is for a single value, where these are the
// value's too.
package escape

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// String returns s with everything that could act on a terminal written out:
// "\n" as \n, ESC as \u001b, a byte that is no UTF-8 as \x9b.
func String(s string) string { return escape(s, false) }

// Writer returns a writer that escapes as String does, but for line breaks and
// tabs, before it writes to w. What it makes of a JSON document is the same
// document. A letter must not be cut in two between writes.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ w io.Writer }

func (w writer) Write(p []byte) (int, error) {
	text := escape(string(p), true)
	n, err := io.WriteString(w.w, text)
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func escape(s string, layout bool) string {
	harmless := func(r rune) bool { return r == '\n' || r == '\t' }
	if strings.IndexFunc(s, func(r rune) bool {
		return r == utf8.RuneError ||
			acts(r) && !(layout && harmless(r))
	}) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case layout && harmless(r) || !acts(r):
			b.WriteString(s[:size])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		default:
			fmt.Fprintf(&b, `\u%04x`, r) // also the notation of JSON
		}
		s = s[size:]
	}
	return b.String()
}

// acts reports whether a character does something instead of being seen: control
// characters (Cc), line and paragraph separators, and the formatting characters
// (Cf) that turn the direction of writing round. Those of the supplementary
// planes are tags, and need a notation that JSON does not have.
func acts(r rune) bool {
	switch {
	case unicode.IsControl(r), r == '\u2028', r == '\u2029':
		return true
	case r > 0xffff:
		return false
	}
	return unicode.Is(unicode.Cf, r) && r != '\u00ad' && r != '\u200c' && r != '\u200d' // in words of some scripts
}

// ShellWord makes a word safe to paste into a shell.
func ShellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("-_./:=@%+,", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
