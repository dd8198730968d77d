package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// shells are the generators of the scripts that ask this program, while
// somebody types, what may come next.
var shells = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
	"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
}

// newCompletion takes the place of cobra's own command, whose texts speak
// another language than ours.
func newCompletion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "completion bash|zsh|fish",
		GroupID: groupInstall,
		Short:   "Print the script that completes commands in a shell",
		Long: `Print the script with which a shell completes commands, flags, stamps and the
names of targets. The Debian package installs it for all three shells. Bash
needs the package bash-completion.`,
		Example: `  source <(atobackupd completion bash)
  atobackupd completion zsh > ~/.zfunc/_atobackupd
  atobackupd completion fish > ~/.config/fish/completions/atobackupd.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var script bytes.Buffer
			if err := shells[args[0]](cmd.Root(), &script); err != nil {
				return err
			}
			return c.emit(map[string]string{"shell": args[0], "script": script.String()},
				func(w io.Writer) { fmt.Fprint(w, script.String()) })
		},
	}
}

// completeStamps offers the snapshots of this machine to the shell.
func (c *cli) completeStamps(
	cmd *cobra.Command, args []string, toComplete string,
) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	a, err := c.open(cmd.Context(), true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer a.Close()
	catalog, err := a.List(cmd.Context(), time.Now())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	stamps := []string{latest}
	for _, b := range catalog.Backups {
		stamps = append(stamps, string(b.Stamp)+"\t"+describeKind(b.Kind, b.Full))
	}
	return stamps, cobra.ShellCompDirectiveNoFileComp
}

// completeTargets offers the configured targets to the shell.
func (c *cli) completeTargets(
	cmd *cobra.Command, args []string, toComplete string,
) ([]string, cobra.ShellCompDirective) {
	cfg, err := c.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range cfg.Offsite {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
