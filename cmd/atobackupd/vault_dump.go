package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultDump(c *cli) *cobra.Command {
	var f vaultFlags
	var identity, output string
	cmd := &cobra.Command{
		Use:   "dump STAMP|PUSH|latest PATH --identity FILE -o FILE|-",
		Short: "Fetch one file of a snapshot from the vault",
		Long: `Fetch one file of a snapshot from the vault, by the path that "vault ls" shows,
e.g. db/atocore.db. Only the packs that hold parts of it are read, and its
digest is compared before the first byte is written.`,
		Example:           "  atobackupd vault dump latest db/atocore.db --identity key.txt -o a.db",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: f.completeStored(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case output == "":
				return &failure.Error{Op: "vault dump", Kind: failure.Usage, Err: errors.New("-o is needed"), Hint: "name a file, or - for the standard output"}
			case output == "-" && c.json:
				return &failure.Error{Op: "vault dump", Kind: failure.Usage, Err: errors.New("--json and -o - exclude each other"), Hint: "name a file"}
			}
			identities, err := c.identities(identity)
			if err != nil {
				return err
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				out := &lazyFile{path: output, stdout: c.stdout}
				var stored offsite.Stored
				stored, err := v.Dump(cmd.Context(), args[0], args[1], identities, out)
				if err = out.finish(err); err != nil || output == "-" {
					return err
				}
				doc := map[string]any{"stamp": stored.Stamp, "path": args[1], "output": output, "bytes": out.n}
				return c.emit(doc, func(w io.Writer) {
					fmt.Fprintf(w, "wrote %s of %s to %s, %d bytes\n", args[1], stored.Stamp, output, out.n)
				})
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "the age or ssh secret key `file`")
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `file` to write, or - for the standard output")
	return cmd
}

// lazyFile is made when its first byte comes, so that a command that fails leaves
// no file. An existing file is never replaced.
type lazyFile struct {
	path   string
	stdout io.Writer
	file   *os.File
	n      int64
}

// Write writes to the file, or to the standard output where its path is "-".
func (l *lazyFile) Write(p []byte) (n int, err error) {
	defer func() { l.n += int64(n) }()
	if l.path == "-" {
		return l.stdout.Write(p)
	}
	if err := l.create(); err != nil {
		return 0, err
	}
	return l.file.Write(p)
}

func (l *lazyFile) create() (err error) {
	if l.file == nil {
		l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	return err
}

// finish makes the file durable, or removes what there is of it after an error. A
// file without a byte is a file too.
func (l *lazyFile) finish(err error) error {
	if l.path == "-" {
		return err
	}
	if err == nil {
		err = l.create()
	}
	if l.file == nil {
		return err
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err = errors.Join(err, l.file.Close()); err != nil {
		return errors.Join(err, os.Remove(l.path))
	}
	return nil
}
