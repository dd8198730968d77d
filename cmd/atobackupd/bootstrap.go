package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/setup"
)

// bootstrapFlags say which vault a new machine takes up, and how.
type bootstrapFlags struct {
	dir, from, identity             string
	sshKey, knownHosts, credentials string
	signers                         []string
	dryRun, force, noFetch          bool
}

func newBootstrap(c *cli) *cobra.Command {
	var f bootstrapFlags
	cmd := &cobra.Command{
		Use:     "bootstrap --identity FILE (--dir PATH | --from URL)",
		GroupID: groupRecovery,
		Short:   "Take up an old vault on a new machine",
		Long: `Take up the vault of a machine that is gone, with nothing but the vault and the
secret key: unseal the newest host document in it, show what it would write, and
write it (configuration, known hosts, the keys of ssh and of signing). Each
command that the configuration names is shown, and left out unless you confirm
it. With --config the configuration is written there, not where it was. Nothing
is replaced without --force.

Then the newest full snapshot and the newest are brought into the backup
directory, ready for "atobackupd restore", and what the old machine knew of the
vault is rebuilt from them: the next sync goes on with the same vault and sends
a day's changes.

URL is sftp://USER@HOST[:PORT]/PATH, where the host's key must be in
--known-hosts, or s3+https://HOST/BUCKET[/PREFIX][?region=REGION], with keys in
the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in --credentials.`,
		Example: "  sudo atobackupd bootstrap --identity key.txt --dir /mnt/vault\n" +
			"  atobackupd bootstrap --identity key.txt --from s3+https://HOST/BUCKET",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.bootstrap(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "the vault, in this `directory`")
	flags.StringVar(&f.from, "from", "", "the vault, at this `URL`")
	flags.StringVar(&f.identity, "identity", "", "the age or ssh secret key `file`")
	flags.StringArrayVar(&f.signers, "signer", nil,
		"the `key` from the recovery sheet that must have signed it; may be repeated")
	flags.StringVar(&f.sshKey, "ssh-key", "", "with --from: any ssh key `file` that may read there")
	flags.StringVar(&f.knownHosts, "known-hosts", "",
		"with --from: the `file` that knows the host (default ~/.ssh/known_hosts)")
	flags.StringVar(&f.credentials, "credentials", "", "with --from s3+https: the `file` of keys, in AWS' format")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be written")
	flags.BoolVar(&f.force, "force", false, "replace files that are there")
	flags.BoolVar(&f.noFetch, "no-fetch", false, "write the files and fetch no snapshot")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

func (c *cli) bootstrap(ctx context.Context, f bootstrapFlags) error {
	if (f.dir == "") == (f.from == "") {
		return &failure.Error{Op: "bootstrap", Kind: failure.Usage,
			Err: errors.New("one of --dir and --from is needed")}
	}
	identities, err := c.identities(f.identity)
	if err != nil {
		return err
	}
	v, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	for _, note := range v.Notes {
		c.progress.line(c.stderr, "atobackupd: "+note)
	}
	configPath := c.configPath
	if configPath != "" {
		if configPath, err = filepath.Abs(configPath); err != nil {
			return err
		}
	}
	report, err := setup.Bootstrap(ctx, v, setup.BootstrapRequest{
		Identities: identities, Force: f.force, DryRun: f.dryRun, Confirm: c.confirm, ConfigPath: configPath,
	})
	if err != nil {
		return err
	}
	doc := struct {
		setup.BootstrapReport
		Continued *app.Continued `json:"continued"`
	}{BootstrapReport: report}
	if !f.dryRun && !f.noFetch {
		cfg, err := config.Load(report.Config)
		if err != nil {
			return err
		}
		a, err := app.Open(ctx, cfg, c.options(cfg))
		if err != nil {
			return err
		}
		defer a.Close()
		continued, err := a.Continue(ctx, v, report.Target, identities)
		if err != nil {
			return err
		}
		doc.Continued = &continued
	}
	return c.emit(doc, func(w io.Writer) { printBootstrap(w, report, doc.Continued) })
}

func printBootstrap(w io.Writer, report setup.BootstrapReport, continued *app.Continued) {
	fmt.Fprintf(w, "vault %s of host %s, target %s\n", report.VaultID, report.Host, report.Target)
	for _, file := range report.Files {
		verb := "would write"
		if file.Written {
			verb = "wrote"
		}
		fmt.Fprintln(w, verb, file.Path)
	}
	for _, command := range report.Commands {
		verdict := "left out"
		if command.Kept {
			verdict = "kept"
		}
		fmt.Fprintf(w, "command %s = %q: %s\n", command.Key, command.Argv, verdict)
	}
	if continued == nil {
		return
	}
	for _, stamp := range continued.Snapshots {
		fmt.Fprintf(w, "fetched %s; put it in place with:\n", stamp)
		fmt.Fprintf(w, "  atobackupd restore %s --confirm-service-stopped --accept-other-deployment\n", stamp)
	}
}

// open opens the vault that the flags name.
func (f *bootstrapFlags) open(ctx context.Context) (*app.Vault, error) {
	if f.dir != "" {
		return app.OpenVaultDir(ctx, f.dir, f.signers)
	}
	at := app.VaultURL{URL: f.from, SSHKey: f.sshKey, KnownHosts: f.knownHosts, Credentials: f.credentials}
	return at.Open(ctx, f.signers)
}
