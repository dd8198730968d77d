package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
)

func newDump(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "dump STAMP|latest db|registry|PATH -o FILE|-",
		GroupID: groupDaily,
		Short:   "Write out one file of a snapshot",
		Long: `Write out one file of a snapshot of this machine: the database, the registry, or
any file by the path that "ls" shows. Its digest is compared before the first
byte is written, and an existing file is never replaced. Nothing live is
touched: to look into yesterday's database, dump it and open it with sqlite3.`,
		Example: "  atobackupd dump latest db -o yesterday.db\n" +
			"  atobackupd dump 20260407T060000Z registry -o - | jq .projects",
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string,
			cobra.ShellCompDirective) {
			if len(args) == 1 {
				return c.completeFiles(cmd, args[0])
			}
			return c.completeStamps(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput("dump", output, c.json); err != nil {
				return err
			}
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				out := &lazyFile{path: output, stdout: c.rawStdout}
				f, stamp, err := a.Dump(cmd.Context(), args[0], args[1], out)
				if err = out.finish(err); err != nil || output == "-" {
					return err
				}
				doc := map[string]any{"stamp": stamp, "path": f.Path, "output": output, "bytes": out.n}
				return c.emit(doc, func(w io.Writer) {
					fmt.Fprintf(w, "wrote %s of %s to %s, %d bytes\n", f.Path, stamp, output, out.n)
				})
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `file` to write, or - for the standard output")
	return cmd
}

// checkOutput refuses an -o that is missing, or that would mix a file with the
// one document of --json.
func checkOutput(op, output string, json bool) error {
	switch {
	case output == "":
		return &failure.Error{Op: op, Kind: failure.Usage, Err: errors.New("-o is needed"),
			Hint: "name a file, or - for the standard output"}
	case output == "-" && json:
		return &failure.Error{Op: op, Kind: failure.Usage, Err: errors.New("--json and -o - exclude each other"),
			Hint: "name a file"}
	}
	return nil
}

// completeFiles offers the artifacts and files of a snapshot to the shell.
func (c *cli) completeFiles(cmd *cobra.Command, stamp string) ([]string, cobra.ShellCompDirective) {
	names := []string{"db", "registry"}
	if a, err := c.open(cmd.Context(), true); err == nil {
		defer a.Close()
		if doc, err := a.Files(cmd.Context(), stamp); err == nil {
			for _, f := range doc.Files {
				names = append(names, f.Path)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
