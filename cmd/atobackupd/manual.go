package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
)

// newManual writes the manual pages, for those who make packages.
func newManual(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    "gen-man DIR",
		Hidden: true,
		Short:  "Write the manual pages into a directory",
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := []string{}
			for name, text := range manualPages(cmd.Root()) {
				names = append(names, name)
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(text), 0o644); err != nil {
					return &failure.Error{Op: "gen-man", Err: errors.Unwrap(err), Subject: args[0], Hint: "make the directory first"}
				}
			}
			return c.emit(map[string]int{"pages": len(names)}, func(io.Writer) {})
		},
	}
}

// manualPages gives every page by the name of its file.
func manualPages(root *cobra.Command) map[string]string {
	pages := map[string]string{"atobackupd.1": rootPage(root), "atobackupd.toml.5": configPage()}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range shown(cmd) {
			pages[pageName(sub)+".1"] = commandPage(sub)
			walk(sub)
		}
	}
	walk(root)
	return pages
}

// shown gives the commands below one that have a page.
func shown(cmd *cobra.Command) (list []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			list = append(list, sub)
		}
	}
	return list
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

const commandManual = "User Commands"

func rootPage(root *cobra.Command) string {
	p := newManPage("atobackupd", 1, commandManual)
	p.section("NAME")
	p.line("atobackupd - " + lowerFirst(root.Short))
	p.section("SYNOPSIS")
	p.line("`atobackupd` COMMAND [ARGUMENTS] [OPTIONS]")
	p.section("DESCRIPTION")
	description, _, _ := strings.Cut(root.Long, "\n\nExit status")
	p.prose(description)
	p.section("COMMANDS")
	p.prose("Each has a page of its own, such as `man atobackupd-restore`, and explains itself with `--help`.")
	for _, group := range root.Groups() {
		p.macro("SS", strings.TrimSuffix(group.Title, ":"))
		for _, cmd := range shown(root) {
			if cmd.GroupID == group.ID {
				p.item(strings.TrimPrefix(cmd.CommandPath(), "atobackupd "), cmd.Short+".")
			}
		}
	}
	p.flags("OPTIONS OF EVERY COMMAND", root.PersistentFlags())
	p.section("EXIT STATUS")
	for _, status := range exitStatus {
		p.item(status[0], status[1])
	}
	p.section("ENVIRONMENT")
	p.item("ATOBACKUPD_CONFIG", "The configuration file, where `--config` does not name one.")
	p.section("FILES")
	for _, file := range manualFiles {
		p.item(file[0], file[1])
	}
	p.examples(root.Example)
	p.section("SEE ALSO")
	p.line("atobackupd.toml(5), " + references(shown(root)) + ", age(1), zstd(1), sqlite3(1)")
	return p.String()
}

// exitStatus is the contract that exitCode carries out.
var exitStatus = [][2]string{
	{"0", "Done."},
	{"1", "Failed. For `atobackupd status`: a warning."},
	{"2", "The command line or the configuration is wrong. For `atobackupd status`: critical."},
	{"3", "A snapshot is not valid. For `atobackupd status`: unknown."},
	{"4", "Refused for safety; nothing was touched."},
	{"5", "Another atobackupd is at work and did not finish within `--lock-timeout`."},
	{"75", "A target cannot be reached: try later."},
	{"130", "Interrupted; nothing half-made was left."},
}

var manualFiles = [][2]string{
	{config.DefaultPath, "The configuration; see atobackupd.toml(5)."},
	{"/var/lib/atobackupd", "The history, the maps of what each vault holds, and the signing key."},
	{"/srv/storage/atocore/backups/snapshots/STAMP", "A snapshot, laid out as AtoCore's own tools lay it out."},
	{"/usr/share/doc/atobackupd/examples/config.example.toml", "Every key of the configuration, with its default and what it means."},
}

func commandPage(cmd *cobra.Command) string {
	p := newManPage(pageName(cmd), 1, commandManual)
	p.section("NAME")
	p.line(pageName(cmd) + " - " + lowerFirst(cmd.Short))
	p.section("SYNOPSIS")
	p.line("`" + cmd.CommandPath() + "`" + strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()))
	p.section("DESCRIPTION")
	p.prose(cmd.Long)
	if subs := shown(cmd); len(subs) > 0 {
		p.section("COMMANDS")
		for _, sub := range subs {
			p.item(sub.CommandPath(), sub.Short+". See "+pageName(sub)+"(1).")
		}
	}
	p.flags("OPTIONS", cmd.NonInheritedFlags())
	p.flags("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	p.examples(cmd.Example)
	p.section("SEE ALSO")
	p.line(pageName(cmd.Parent()) + "(1), atobackupd.toml(5)")
	return p.String()
}

func (p *manPage) examples(text string) {
	p.section("EXAMPLES")
	p.prose(text)
}

func (p *manPage) flags(heading string, flags *pflag.FlagSet) {
	flags.SortFlags = true
	begun := false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if !begun {
			p.section(heading)
			begun = true
		}
		value, usage := pflag.UnquoteUsage(f)
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		if value != "" {
			term += " " + strings.ToUpper(value)
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && !strings.Contains(usage, "default") {
			usage += "; the default is " + f.DefValue
		}
		p.item(term, strings.ToUpper(usage[:1])+usage[1:]+".")
	})
}

func references(commands []*cobra.Command) string {
	var names []string
	for _, cmd := range commands {
		names = append(names, pageName(cmd)+"(1)")
	}
	return strings.Join(names, ", ")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
