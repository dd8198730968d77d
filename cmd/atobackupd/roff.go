package main

import (
	"fmt"
	"regexp"
	"strings"
)

// manPage is a manual page being written, in the man(7) macros. It bears no
// date: built again, it has the same bytes.
type manPage struct {
	strings.Builder
	headed bool // a heading was written last, after which a paragraph has begun
}

func newManPage(name string, section int, manual string) *manPage {
	p := &manPage{}
	p.macro("TH", strings.ToUpper(name), fmt.Sprint(section), "", "atobackupd "+version(), manual)
	// Names and paths are copied and typed: they stay whole. The register outlives
	// the next heading, which turns hyphenation on again.
	p.WriteString(".nr HY 0\n.nh\n.ad l\n")
	return p
}

func (p *manPage) macro(name string, args ...string) {
	p.headed = name == "SH" || name == "SS"
	p.WriteString("." + name)
	for _, arg := range args {
		p.WriteString(` "` + strings.ReplaceAll(roffText(arg), `"`, `\(dq`) + `"`)
	}
	p.WriteString("\n")
}

func (p *manPage) section(heading string) { p.macro("SH", heading) }

// item is a term, written in bold, and what there is to say about it.
func (p *manPage) item(term, text string) {
	p.macro("TP")
	p.WriteString(`\fB` + roffText(term) + "\\fR\n")
	p.body(text, "IP")
}

// prose writes paragraphs, with a blank line between two, in which indented
// lines are kept as they are and words between backquotes are bold.
func (p *manPage) prose(text string) {
	if text == "" {
		return
	}
	if !p.headed {
		p.macro("PP")
	}
	p.body(text, "PP")
}

func (p *manPage) body(text, paragraph string) {
	literal, gap := false, false
	end := func() {
		if literal {
			p.macro("EE")
			literal = false
		}
	}
	for i, line := range strings.Split(text, "\n") {
		switch indented := strings.HasPrefix(line, "  "); {
		case line == "":
			gap = true
			continue
		case indented && !literal:
			// RS would count from the page's margin also inside an item.
			p.macro("IP")
			p.macro("EX")
			literal = true
		case indented && gap:
			p.WriteString("\n")
		case !indented && (gap || literal) && i > 0:
			end()
			p.macro(paragraph)
		}
		gap = false
		p.line(strings.TrimPrefix(line, "  "))
	}
	end()
}

var backquoted = regexp.MustCompile("`([^`]*)`")

func (p *manPage) line(text string) {
	p.headed = false
	text = backquoted.ReplaceAllString(roffText(text), `\fB$1\fR`)
	// A control character at the begin of a line would make it a request.
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, `\(aq`) || strings.HasPrefix(text, " ") {
		text = `\&` + text
	}
	p.WriteString(text + "\n")
}

// roffText escapes what roff would read as its own. Hyphens become minus signs,
// which are what is typed.
func roffText(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r > 126:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
