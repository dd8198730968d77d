package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atocore/atobackupd"
)

// TestManualPages builds the program that writes the pages, as packaging/deb.sh
// does. Every page is what groff reads without a complaint, each command has one
// that shows all of its flags, and every key of the configuration has its entry.
func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	output(t, ".", "go", "run", "-tags", "man", ".", "gen-man", "../../docs/configuration.md", dir)
	shown := make(map[string]string)
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		must(t, err)
		groff := exec.Command("groff", "-k", "-t", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=300n")
		groff.Stdin = bytes.NewReader(text)
		var out, complaints bytes.Buffer
		groff.Stdout, groff.Stderr = &out, &complaints
		if err := groff.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v: %s", page, err, &complaints)
		}
		shown[filepath.Base(page)] = out.String()
	}
	everyCommand(func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		for _, want := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLE", cmd.Short} {
			if !strings.Contains(shown[name], want) {
				t.Errorf("%s has no %s:\n%s", name, want, shown[name])
			}
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(shown[name], "--"+f.Name) {
				t.Errorf("%s has no --%s", name, f.Name)
			}
		})
	})
	key := regexp.MustCompile(`(?m)^#?([a-z_]+) = `)
	for _, m := range key.FindAllStringSubmatch(atobackupd.ConfigExample, -1) {
		if !strings.Contains(shown["atobackupd.toml.5"], m[1]) {
			t.Errorf("the page of the configuration lacks %s", m[1])
		}
	}
}

// everyCommand calls see for each command that people see, the root first.
func everyCommand(see func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		see(cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&cli{stdout: io.Discard, stderr: io.Discard}))
}
