package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newConfigShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Print the configuration in effect, defaults included, secrets removed",
		Long: `Print the configuration in effect as TOML, with every default, so that nothing
has to be looked up. Passwords and tokens in addresses are left out.`,
		Example: "  atobackupd config show\n  atobackupd config show --json | jq -r .toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			text, err := cfg.Show()
			if err != nil {
				return err
			}
			return c.emit(map[string]string{"path": cfg.Path, "toml": string(text)},
				func(w io.Writer) { fmt.Fprintf(w, "%s", text) })
		},
	}
}
