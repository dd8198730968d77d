package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/atocore/atobackupd/internal/failure"
)

// position is a place in the file, both counted from 1; the zero value is
// nowhere.
type position struct{ line, column int }

// problem is one thing that is wrong with a configuration.
type problem struct {
	at   position
	key  string // as in position maps: "offsite[0].path"; empty for syntax
	why  string
	hint string // what to do
}

type problems []problem

func (ps *problems) add(at position, key, hint, why string, args ...any) {
	*ps = append(*ps, problem{at, key, fmt.Sprintf(why, args...), hint})
}

// about reports whether something is wrong with key, with a part of it or with
// what it is part of.
func (ps problems) about(key string) bool {
	return slices.ContainsFunc(ps, func(p problem) bool {
		return p.key != "" && (partOf(key, p.key) || partOf(p.key, key))
	})
}

func partOf(key, whole string) bool {
	rest, found := strings.CutPrefix(key, whole)
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// err returns all problems as one error of kind Config, in the order of the
// file; nil when there are none. Its errors.As target and its parts are
// *failure.Error.
func (ps problems) err(path string) error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
	var all []error
	for _, p := range ps {
		op := strings.TrimSpace("config " + path)
		if p.at.line > 0 {
			op = fmt.Sprintf("%s:%d:%d", op, p.at.line, p.at.column)
		}
		all = append(all, &failure.Error{Op: op, Kind: failure.Config, Err: errors.New(p.why), Hint: p.hint})
	}
	if len(all) == 1 {
		return all[0]
	}
	return &failure.Error{Kind: failure.Config, Err: errors.Join(all...)}
}

// element is the key of one element of a list.
func element(list string, index int) string { return fmt.Sprintf("%s[%d]", list, index) }

var indexes = regexp.MustCompile(`\[\d+\]`)

// shown is a key as the file writes it, without indexes.
func shown(key string) string { return indexes.ReplaceAllString(key, "") }

var secretParts = regexp.MustCompile(`(?i)AGE-(SECRET-KEY|PLUGIN)-[^\s"']*|[a-z][a-z0-9+.-]*://[^\s"'@/]*@`)

// safe is text from the file as an error may print it: without secret keys and
// passwords in addresses, without control characters, and no longer than a line.
func safe(text string) string {
	if strings.Contains(text, "PRIVATE KEY") {
		return "(a private key)"
	}
	text = secretParts.ReplaceAllStringFunc(text, func(secret string) string {
		if scheme, _, isURL := strings.Cut(secret, "://"); isURL {
			return scheme + "://…@"
		}
		return "(a secret key)"
	})
	text = strings.Map(printable, text)
	if line := []rune(text); len(line) > 80 {
		return string(line[:79]) + "…"
	}
	return text
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

// quoted is a value as an error may print it.
func quoted(value string) string { return fmt.Sprintf("%q", safe(value)) }
