package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// moment is how people are shown a time.
const moment = "2006-01-02 15:04 MST"

// say writes a message below a table, wrapped and with its later lines indented,
// and what to do about it.
func say(w io.Writer, width int, message, hint string) {
	const indent = "    "
	for i, line := range wrapText(message, width-len(indent)) {
		if i > 0 {
			line = indent + line
		}
		fmt.Fprintln(w, line)
	}
	if hint != "" && !strings.Contains(message, hint) {
		for _, line := range wrapText(hint, width-len(indent)) {
			fmt.Fprintln(w, indent+line)
		}
	}
}

// about puts a name before a message that does not begin with it.
func about(name, message string) string { return name + ": " + strings.TrimPrefix(message, name+": ") }

// hang writes label and text as one paragraph, whose later lines are indented. A
// text that fits stays as it is, and no word is broken: a path can be copied.
func hang(w io.Writer, width int, label, text string) {
	const indent = "      "
	lines := []string{text}
	if first := width - utf8.RuneCountInString(label); utf8.RuneCountInString(text) > first {
		lines = fill(strings.Fields(text), first, width-len(indent))
	}
	for i, line := range lines {
		if i > 0 {
			label = indent
		}
		fmt.Fprintln(w, label+line)
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
