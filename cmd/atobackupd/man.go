//go:build man

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/atocore/atobackupd/internal/config"
)

// The manual pages are written by a program of their own, built with the tag
// "man" for those who make packages: what is shipped does not carry the writer.
func init() { commands = append(commands, newManual) }

func newManual(*cli) *cobra.Command {
	return &cobra.Command{
		Use:    "gen-man CONFIGURATION.MD DIR",
		Hidden: true,
		Short:  "Write the manual pages into a directory",
		Args:   cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true
			root.Long += manFooter
			header := &doc.GenManHeader{Section: "1", Source: "atobackupd " + version(), Manual: "User Commands"}
			if err := doc.GenManTree(root, header, args[1]); err != nil {
				return err
			}
			page, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(args[1], "atobackupd.toml.5"), configManual(page), 0o644)
		},
	}
}

// configManual turns docs/configuration.md into atobackupd.toml(5).
func configManual(page []byte) []byte {
	_, text, _ := bytes.Cut(page, []byte("\n# Configuration\n"))
	head := `% "ATOBACKUPD.TOML" "5" "" "atobackupd ` + version() + `" "File Formats"
# NAME
atobackupd.toml - the configuration of atobackupd

# DESCRIPTION
`
	foot := "\n# SEE ALSO\n**atobackupd(1)**, **atobackupd-config(1)**\n"
	return md2man.Render([]byte(head + strings.ReplaceAll(string(text), "\n## ", "\n# ") + foot))
}

// manFooter is what only the manual says of the program as a whole.
const manFooter = `

# ENVIRONMENT
**ATOBACKUPD_CONFIG**
: the configuration file, where --config does not name one

# FILES
**` + config.DefaultPath + `**
: the configuration; see atobackupd.toml(5)

**/var/lib/atobackupd**
: the history, the maps of what each vault holds, and the signing key

**/usr/share/doc/atobackupd/examples/config.example.toml**
: every key of the configuration, with its default and what it means
`
