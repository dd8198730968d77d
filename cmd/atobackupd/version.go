package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// stamped is set when a release is built: -ldflags "-X main.stamped=1.2.3".
var stamped string

// version is the stamped one, else what the toolchain knows.
func version() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: groupInstall,
		Short:   "Print the version",
		Long:    "Print the version of this program, and what it was built with and for.",
		Example: "  atobackupd version\n  atobackupd version --json | jq -r .version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			doc := map[string]string{"version": version(), "go": runtime.Version(), "os": runtime.GOOS,
				"arch": runtime.GOARCH}
			return c.emit(doc, func(w io.Writer) {
				fmt.Fprintf(w, "atobackupd %s (%s %s/%s)\n", doc["version"], doc["go"], doc["os"], doc["arch"])
			})
		},
	}
}
