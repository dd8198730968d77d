package main

import (
	"regexp"
	"strings"

	"github.com/atocore/atobackupd"
	"github.com/atocore/atobackupd/internal/config"
)

// Lines of config.example.toml. Text has a space after its "#"; a table or a
// key that is off has none.
var (
	exampleTable = regexp.MustCompile(`^#?(\[+[a-z.]+\]+)$`)
	exampleKey   = regexp.MustCompile(`^#?["a-z_:]+ = `)
	exampleRule  = regexp.MustCompile(`^# -+$`)
	exampleMore  = regexp.MustCompile(`^# e\.g\. ([a-z_]+ = .*)$`) // stands below its key
)

// configPage is the manual of the configuration: config.example.toml, which
// explains every key and is tested to be what the program reads.
func configPage() string {
	p := newManPage("atobackupd.toml", 5, "File Formats")
	p.section("NAME")
	p.line("atobackupd.toml - the configuration of atobackupd, " + config.DefaultPath)
	p.section("DESCRIPTION")
	var text []string
	flush := func() string {
		joined := strings.Trim(strings.Join(text, "\n"), "\n")
		text = nil
		return joined
	}
	lines := strings.Split(strings.TrimSpace(atobackupd.ConfigExample), "\n")
	for i, line := range lines[1:] { // the first says what the file is
		switch table := exampleTable.FindStringSubmatch(line); {
		case exampleRule.MatchString(line):
			p.prose(flush())
		case table != nil && strings.Contains(table[1], "."):
			p.macro("SS", table[1])
			p.prose(flush())
		case table != nil:
			p.section(table[1])
			p.prose(flush())
		case exampleKey.MatchString(line):
			about := flush()
			if more := exampleMore.FindStringSubmatch(lines[min(i+2, len(lines)-1)]); more != nil {
				about += "\n\n  " + more[1]
			}
			p.item(line, strings.TrimPrefix(about, "\n\n"))
		case exampleMore.MatchString(line): // it was written with its key
		case line == "":
			p.prose(flush())
		case line == "#" || strings.HasPrefix(line, "# "):
			text = append(text, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
		}
	}
	p.section("SEE ALSO")
	p.line("atobackupd(1), atobackupd-config(1)")
	return p.String()
}
