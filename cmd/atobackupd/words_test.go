package main

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command says in one line what it does, in some more what a person must
// know, and by an example how it is called; and fits on an 80-column terminal.
func TestEveryCommandExplainsItself(t *testing.T) {
	seen := 0
	everyCommand(func(cmd *cobra.Command) {
		seen++
		name := cmd.CommandPath()
		sentence(t, name+": short", cmd.Short)
		if len(cmd.Short) > 72 {
			t.Errorf("%s: the short text has %d characters, which is not short", name, len(cmd.Short))
		}
		if cmd.Long == "" || strings.HasSuffix(cmd.Long, "\n") {
			t.Errorf("%s: long is %q", name, cmd.Long)
		}
		for _, line := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
			if utf8.RuneCountInString(line) > 80 || strings.TrimRight(line, " ") != line ||
				strings.Contains(line, "\t") {
				t.Errorf("%s: does not fit on a terminal: %q", name, line)
			}
		}
		if cmd.Example == "" {
			t.Errorf("%s: no example", name)
		}
		for _, line := range strings.Split(cmd.Example, "\n") {
			if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "atobackupd") {
				t.Errorf("%s: this is no example: %q", name, line)
			}
		}
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") ||
				unicode.IsUpper([]rune(f.Usage)[0]) && !strings.HasPrefix(f.Usage, "AtoCore") &&
					!strings.HasPrefix(f.Usage, "Chroma") {
				t.Errorf("%s: --%s is explained by %q", name, f.Name, f.Usage)
			}
		})
	})
	if seen < 30 {
		t.Errorf("only %d commands", seen)
	}
}

func sentence(t *testing.T, where, text string) {
	t.Helper()
	if text == "" || !unicode.IsUpper([]rune(text)[0]) || strings.HasSuffix(text, ".") {
		t.Errorf("%s: %q", where, text)
	}
}

// What examples type exists: the command, and its flags.
func TestExamplesParse(t *testing.T) {
	everyCommand(func(cmd *cobra.Command) {
		for _, line := range strings.Split(cmd.Example, "\n") {
			_, line, _ = strings.Cut(line, "atobackupd ")
			for _, end := range []string{" | ", " > ", " >> ", ")", " && "} {
				line, _, _ = strings.Cut(line, end)
			}
			found, rest, err := newRoot(&cli{}).Find(strings.Fields(line))
			if err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
				continue
			}
			if cmd.HasParent() && cmd.CommandPath() != found.CommandPath() &&
				!strings.HasPrefix(found.CommandPath(), cmd.CommandPath()+" ") {
				t.Errorf("%s: the example %q is one of %s", cmd.CommandPath(), line, found.CommandPath())
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
			}
		}
	})
}
