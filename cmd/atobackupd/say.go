package main

import (
	"fmt"
	"io"
	"strings"
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

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
