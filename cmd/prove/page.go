package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

const (
	begin = "<!-- prove: begin -->\n"
	end   = "<!-- prove: end -->\n"
	head  = "| what | how | points | failures | time | measured | what it does not prove |\n" +
		"|---|---|---|---|---|---|---|\n"
)

// updatePage replaces one row of the table in a page.
func updatePage(path, name string, r result) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	updated, err := update(string(text), scenarios, name, r)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return fsx.WriteFile(path, []byte(updated), 0o644)
}

// update returns the page with a new result of one scenario. The rows are in the
// order of the list, and those of scenarios that it no longer names are gone.
func update(page string, list []scenario, name string, r result) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	old, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("the marks %q and %q are missing", begin, end)
	}
	rows := map[string]string{}
	for line := range strings.Lines(old) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows[strings.TrimSpace(cells[1])] = line
		}
	}
	var table strings.Builder
	for _, s := range list {
		if s.Name == name {
			rows[name] = s.row(r)
		}
		table.WriteString(rows[s.Name])
	}
	return before + begin + head + table.String() + end + after, nil
}

func (s scenario) row(r result) string {
	return fmt.Sprintf("| %s | %s | %d | %d | %v | %s | %s |\n", s.Name, s.How, r.Points, r.Failures,
		r.Took.Round(time.Second), r.When.UTC().Format(time.DateOnly), s.Not)
}
