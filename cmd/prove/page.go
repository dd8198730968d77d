package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

const (
	begin     = "<!-- prove: begin -->\n"
	end       = "<!-- prove: end -->\n"
	saidBegin = "<!-- said: begin -->\n"
	saidEnd   = "<!-- said: end -->\n"
	head      = "| what | how | points | failures | time | measured | what it does not prove |\n" +
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

// update returns the page with a new result of one scenario: its row, and below the
// table what its tests said. Both are in the order of the list, and what belongs to
// scenarios that it no longer names is gone.
func update(page string, list []scenario, name string, r result) (string, error) {
	page, err := replace(page, begin, end, func(old string) string {
		rows := map[string]string{}
		for line := range strings.Lines(old) {
			if cells := strings.Split(line, "|"); len(cells) > 2 {
				rows[strings.TrimSpace(cells[1])] = line
			}
		}
		return head + inOrder(list, rows, name, func(s scenario) string { return s.row(r) })
	})
	if err != nil {
		return "", err
	}
	return replace(page, saidBegin, saidEnd, func(old string) string {
		parts := map[string]string{}
		for part := range strings.SplitSeq(old, "### ") {
			title, _, _ := strings.Cut(part, "\n")
			parts[title] = "### " + part
		}
		return inOrder(list, parts, name, func(s scenario) string { return s.words(r) })
	})
}

// inOrder joins the texts of all scenarios, that of one of them written anew.
func inOrder(list []scenario, texts map[string]string, name string, anew func(scenario) string) string {
	var b strings.Builder
	for _, s := range list {
		if s.Name == name {
			b.WriteString(anew(s))
		} else {
			b.WriteString(texts[s.Name])
		}
	}
	return b.String()
}

// replace exchanges what stands between two marks.
func replace(page, begin, end string, anew func(old string) string) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	old, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("the marks %q and %q are missing", begin, end)
	}
	return before + begin + anew(old) + end + after, nil
}

func (s scenario) row(r result) string {
	return fmt.Sprintf("| %s | %s | %d | %d | %v | %s | %s |\n", s.Name, s.How, r.Points, r.Failures,
		r.Took.Round(time.Second), r.When.UTC().Format(time.DateOnly), s.Not)
}

// words is the part of the page with what the tests said; "" when they said nothing.
func (s scenario) words(r result) string {
	if len(r.Said) == 0 {
		return ""
	}
	return "### " + s.Name + "\n\n- " + strings.Join(r.Said, "\n- ") + "\n\n"
}
