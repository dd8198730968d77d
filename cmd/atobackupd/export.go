package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
)

func newExport(c *cli) *cobra.Command {
	var r app.ExportRequest
	cmd := &cobra.Command{
		Use:     "export STAMP|latest -o FILE",
		GroupID: groupRecovery,
		Short:   "Write a snapshot as one encrypted archive that stock tools read",
		Long: `Write one snapshot of this machine as a tar.zst.age file: to a stick, or to hand
it to somebody. It is sealed to encryption.recipients, or to --recipient, and
every file is checked against its digest while it is read. The file appears when
it is whole and on disk. It is read back without atobackupd:

  age -d -i key.txt FILE | zstd -d | tar x`,
		Example: `  atobackupd export latest -o /mnt/stick/atocore.tar.zst.age
  atobackupd export 20260407T060000Z --recipient age1… -o a.tar.zst.age
  atobackupd export latest -o - | ssh laptop 'cat > atocore.tar.zst.age'`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeStamps,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.Name = args[0]
			if err := c.exportTo(&r); err != nil {
				return err
			}
			return c.withApp(cmd.Context(), true, func(a *app.App) error {
				doc, err := a.Export(cmd.Context(), r)
				if err != nil {
					return err
				}
				if r.To == "" {
					c.emitted = true
					return nil
				}
				return c.emit(doc, func(w io.Writer) {
					fmt.Fprintf(w, "exported %s, %s in %s, to %s (%s)\nSHA-256 %s\nread it with: age -d -i KEY "+
						"%s "+
						"| zstd -d | tar x\n", doc.Stamp,
						humanize.IBytes(uint64(doc.ContentBytes)), count(doc.Files, "file"), doc.Path,
						humanize.IBytes(uint64(doc.Bytes)), doc.SHA256, doc.Path)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&r.To, "output", "o", "", "the `file` to make; - is stdout")
	f.StringArrayVar(&r.Recipients, "recipient", nil,
		"seal it to this public `key` instead of the configuration's; may be repeated")
	f.BoolVar(&r.Force, "force", false, "replace the file if it exists")
	f.BoolVar(&r.AllowInvalid, "allow-invalid", false, "export a snapshot that was found invalid")
	return cmd
}

// exportTo settles where the archive goes.
func (c *cli) exportTo(r *app.ExportRequest) (err error) {
	usage := func(why, hint string) error {
		return &failure.Error{Op: "export", Kind: failure.Usage, Err: errors.New(why), Hint: hint}
	}
	switch r.To {
	case "":
		return usage("no file was named", "name one with -o, e.g. -o atocore.tar.zst.age")
	case "-":
		if c.json {
			return usage("--json and -o - exclude each other: both write to stdout", "")
		}
		if isTerminal(c.rawStdout) {
			return usage("stdout is a terminal, and the archive is binary", "redirect it, or name a file with -o")
		}
		r.To, r.Out = "", c.rawStdout
		return nil
	}
	r.To, err = filepath.Abs(r.To)
	return err
}
