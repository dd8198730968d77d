package main

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atocore/atobackupd"
)

// Every manual page is what groff reads without a complaint, and says what the
// command's own help says. Every key of the configuration has its entry.
func TestManualPages(t *testing.T) {
	root := newRoot(&cli{stdout: io.Discard, stderr: io.Discard})
	pages := manualPages(root)
	for name, text := range pages {
		groff := exec.Command("groff", "-k", "-man", "-ww", "-Tutf8", "-P-cbou")
		groff.Stdin = strings.NewReader(text)
		var shown, complaints bytes.Buffer
		groff.Stdout, groff.Stderr = &shown, &complaints
		if err := groff.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v: %s", name, err, &complaints)
		}
		if strings.Contains(shown.String(), "\u2010\n") {
			t.Errorf("%s breaks a word, which may be a name that is copied", name)
		}
		for _, want := range []string{"NAME", "DESCRIPTION", "SEE ALSO"} {
			if !strings.Contains(shown.String(), want) {
				t.Errorf("%s has no %s", name, want)
			}
		}
	}
	everyCommand(func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		page := pages[pageName(cmd)+".1"]
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && !strings.Contains(page, strings.ReplaceAll("--"+f.Name, "-", `\-`)) {
				t.Errorf("the page of %s has no --%s", cmd.CommandPath(), f.Name)
			}
		})
	})
	for _, line := range strings.Split(atobackupd.ConfigExample, "\n") {
		if exampleKey.MatchString(line) && strings.Count(pages["atobackupd.toml.5"], roffText(line)) != strings.Count(atobackupd.ConfigExample, "\n"+line+"\n") {
			t.Errorf("the page of the configuration has not got %s", line)
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
