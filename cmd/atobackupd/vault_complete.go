package main

import (
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// completeStored offers the snapshots of a vault to the shell: of one in a
// directory what lies there, of a target what it held when it was last seen,
// for nobody waits for a sleeping laptop while typing.
func (f *vaultFlags) completeStored(c *cli) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		stamps := []string{"latest"}
		for _, stamp := range f.held(c, cmd) {
			stamps = append(stamps, string(stamp))
		}
		return stamps, cobra.ShellCompDirectiveNoFileComp
	}
}

func (f *vaultFlags) held(c *cli, cmd *cobra.Command) (stamps []snapshot.Stamp) {
	if f.dir != "" {
		_ = c.withVault(cmd.Context(), f, func(v *app.Vault) error {
			list, _, err := v.List(cmd.Context())
			for _, s := range list {
				stamps = append(stamps, s.Stamp)
			}
			return err
		})
		return stamps
	}
	cfg, err := c.load()
	if err != nil {
		return nil
	}
	for _, t := range cfg.Offsite {
		if f.target == "" || f.target == t.Name {
			if state, err := offsite.LoadState(cfg.StateDir, t.Name); err == nil {
				stamps = append(stamps, state.Stamps...)
			}
		}
	}
	return stamps
}
