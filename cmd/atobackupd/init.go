package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/setup"
)

func newInit(c *cli) *cobra.Command {
	var r setup.InitRequest
	var yes bool
	cmd := &cobra.Command{
		Use:     "init",
		GroupID: groupInstall,
		Short:   "Write a configuration, keys and the recovery sheet",
		Long: `Set an installation up: the configuration, the ssh key and the signing key, and
the recovery sheet that says how to get everything back. On a terminal it asks,
and shows what it has found: AtoCore under /srv/storage/atocore, its address,
its compose file. Each answer is a flag as well; --yes asks nothing. Without
--recipient it makes an age identity, which must be moved to another machine,
and --drawer-key a second one. It writes the script that prepares the machine
for the copies (--host), and ends with what is left to do.

It never replaces a key, and nothing else without --force: run it again and it
does what is missing.`,
		Example: `  atobackupd init --host laptop.local --host laptop.tailnet
  atobackupd init --db /data/ato.db --backup-dir /backups --recipient age1…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.ConfigPath = config.Locate(c.configPath)
			if !yes && !c.json && isTerminal(os.Stdin) && !exists(r.ConfigPath) {
				if err := r.Converse(cmd.Context(), c.input(os.Stdin), c.stdout); err != nil {
					return &failure.Error{Op: "init", Kind: failure.Interrupted, Err: err}
				}
			}
			if r.DrawerKey && c.json {
				return usageError(cmd,
					errors.New("--drawer-key and --json exclude each other: the key is shown once, to a person"), "")
			}
			report, err := setup.Init(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.emit(report, func(w io.Writer) { c.printInit(w, report) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&r.DB, "db", "", "AtoCore's database `file`")
	flags.StringVar(&r.Registry, "registry", "",
		"the project registry `file` (default: beside the database, if there is one)")
	flags.StringVar(&r.Chroma, "chroma", "",
		"Chroma's data `directory` (default: beside the database, if there is one)")
	flags.StringVar(&r.BackupDir, "backup-dir", "", "the `directory` of the snapshots (default: beside the data)")
	flags.StringVar(&r.StateDir, "state-dir", "",
		"the `directory` of history and signing key (default /var/lib/atobackupd)")
	flags.StringArrayVar(&r.Recipients, "recipient", nil,
		"a public `key` to seal copies to; may be given several times")
	flags.StringArrayVar(&r.TargetHosts, "host", nil,
		"a `name` of the machine that keeps copies; several are names of the same one")
	flags.StringVar(&r.TargetName, "name", "", "what to call that machine (default laptop)")
	flags.StringVar(&r.TargetUser, "user", "", "the account there (default atobackup)")
	flags.StringVar(&r.TargetPath, "path", "", "the vault's `directory` there (default /home/USER/vault)")
	flags.StringVar(&r.Out, "out", "", "the `directory` of the identity and the recovery sheet (default: your home)")
	flags.BoolVar(&r.Ordinary, "ordinary", false, "let this machine also delete there (default: it may only add)")
	flags.StringVar(&r.HealthURL, "health-url", "", "the `URL` that answers while AtoCore runs (default: found)")
	flags.StringVar(&r.ComposeFile, "compose", "", "the compose `file` that stops and starts AtoCore (default: found)")
	flags.BoolVar(&r.DrawerKey, "drawer-key", false, "make a second key, shown once and kept nowhere")
	flags.BoolVar(&yes, "yes", false, "ask nothing: take what is found and what the flags say")
	flags.BoolVar(&r.Force, "force", false, "replace the configuration and the sheet; keys are never replaced")
	return cmd
}

func (c *cli) printInit(w io.Writer, r setup.InitReport) {
	did := func(f setup.InitFile) string {
		if f.Made {
			return "made"
		}
		return "kept"
	}
	fmt.Fprintf(w, "%s  configuration   %s\n", did(r.Config), r.Config.Path)
	fmt.Fprintf(w, "%s  signing key     %s\n", did(r.SigningKey.InitFile), r.SigningKey.Path)
	fmt.Fprintf(w, "%s  ssh key         %s\n", did(r.SSHKey.InitFile), r.SSHKey.Path)
	if r.Identity != nil {
		fmt.Fprintf(w, "%s  SECRET KEY      %s\n", did(*r.Identity), r.Identity.Path)
	}
	fmt.Fprintf(w, "%s  recovery sheet  %s\n\n%s\n", did(r.RecoverySheet), r.RecoverySheet.Path, r.Sheet)
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
	if r.SecondMachine != nil {
		fmt.Fprintf(w, "For the machine that keeps the copies, also in %s:\n\n%s\n", r.SecondMachine.Path, r.Script)
	}
	if r.DrawerKey != "" {
		fmt.Fprintf(w, "THE KEY FOR THE DRAWER, shown now and never again: write it down, or photograph it.\n\n%s\n\n",
			r.DrawerKey)
		if code, err := setup.QRCode(r.DrawerKey); err == nil && isTerminal(c.rawStdout) {
			_, _ = io.WriteString(c.rawStdout, code+"\n")
		}
	}
	fmt.Fprintln(w, "Next:")
	width := math.MaxInt // in a file a step stays one line
	if isTerminal(c.rawStdout) {
		width = c.width()
	}
	for i, step := range r.Next {
		hang(w, width, fmt.Sprintf("%3d. ", i+1), step)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
