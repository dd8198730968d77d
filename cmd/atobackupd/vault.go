package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
)

// vaultFlags say which vault a command means.
type vaultFlags struct {
	target, dir string
	signers     []string
}

func (f *vaultFlags) register(c *cli, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.target, "target", "", "a configured `target`; needed only when there are several")
	cmd.Flags().StringVar(&f.dir, "dir", "", "a vault in this `directory`, with no configuration")
	_ = cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	_ = cmd.MarkFlagDirname("dir")
}

func (f *vaultFlags) registerSigner(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.signers, "signer", nil,
		"the `key` from the recovery sheet that must have signed it; may be repeated")
}

// withVault opens the vault that the flags name, hands it to use and closes it.
// What whoever opens it should know is said.
func (c *cli) withVault(ctx context.Context, f *vaultFlags, use func(*app.Vault) error) error {
	if f.dir != "" && f.target != "" {
		return &failure.Error{Op: "vault", Kind: failure.Usage,
			Err: errors.New("--dir and --target exclude each other")}
	}
	var v *app.Vault
	var err error
	if f.dir != "" {
		if f.dir, err = filepath.Abs(f.dir); err != nil {
			return err
		}
		v, err = app.OpenVaultDir(ctx, f.dir, f.signers)
	} else {
		a, openErr := c.open(ctx, false)
		if openErr != nil {
			return openErr
		}
		defer a.Close()
		t, targetErr := a.Target(f.target)
		if targetErr != nil {
			return targetErr
		}
		v, err = a.OpenVaultTarget(ctx, t, f.signers)
	}
	if err != nil {
		return err
	}
	defer v.Close()
	for _, note := range v.Notes {
		c.progress.line(c.stderr, "atobackupd: "+note)
	}
	return use(v)
}

func newVault(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "vault",
		GroupID: groupOffsite,
		Short:   "Look into, verify, restore from and prune an encrypted copy",
		Long: `Work with the vault of a configured target, or with one that lies in a directory
of this machine (--dir): on the second machine itself no configuration is
needed.`,
		Example: `  atobackupd vault list --target laptop
  atobackupd vault verify --dir /home/atobackup/vault`,
	})
	cmd.AddCommand(newVaultList(c), newVaultLs(c), newVaultDump(c), newVaultVerify(c), newVaultRestore(c),
		newVaultDrill(c), newVaultPrune(c),
		newVaultForget(c), newVaultStats(c), newVaultRebase(c), newVaultTrustTimes(c), newVaultSigner(c),
		newVaultPolicy(c), newVaultInit(c))
	return cmd
}
