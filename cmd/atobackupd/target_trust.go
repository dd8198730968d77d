package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite/sftp"
)

func newTargetTrust(c *cli) *cobra.Command {
	var fingerprint string
	cmd := &cobra.Command{
		Use:   "trust NAME",
		Short: "Show a target's host key and record it on confirmation",
		Long: `Fetch the host key of a target, show its fingerprint, and record it in the
target's known_hosts when you say yes. Compare the fingerprint on the other
machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`,
		Example:           "  atobackupd target trust laptop\n  atobackupd target trust laptop --fingerprint SHA256:…",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.target(args[0])
			if err != nil {
				return err
			}
			if t.Type != "sftp" {
				return &failure.Error{Op: "target trust", Subject: t.Name, Kind: failure.Usage,
					Err: errors.New("only an sftp target has a host key")}
			}
			found, lines, err := sftp.Trust(cmd.Context(), app.SFTPConfig(t))
			if err != nil {
				return err
			}
			fmt.Fprintf(c.stderr, "target %s shows the host key\n  %s\n", t.Name, found)
			if err := sftp.Contradiction(app.SFTPConfig(t), lines); err != nil {
				fmt.Fprintln(c.stderr, "warning:", err)
			}
			switch {
			case fingerprint != "" && !slices.Contains(strings.Fields(found), fingerprint):
				return &failure.Error{Op: "target trust", Subject: t.Name, Kind: failure.HostKey,
					Err: fmt.Errorf("the fingerprint is %s, not %s", found,
						fingerprint), Hint: "do not trust it before you know why"}
			case fingerprint == "" && !c.confirmed("Is that the fingerprint of the other machine? Type yes: "):
				return &failure.Error{Op: "target trust", Subject: t.Name, Kind: failure.Refused,
					Err:  errors.New("not confirmed, nothing was recorded"),
					Hint: "compare it there, and say yes or give it with --fingerprint"}
			}
			if err := sftp.AppendKnownHosts(t.KnownHosts, lines); err != nil {
				return err
			}
			return c.emit(map[string]any{"target": t.Name, "fingerprint": found, "known_hosts": t.KnownHosts},
				func(w io.Writer) {
					fmt.Fprintf(w, "recorded in %s; try it: atobackupd target test %s\n", t.KnownHosts, t.Name)
				})
		},
	}
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "record it without asking when this is its `fingerprint`")
	return cmd
}

// confirmed asks a question on stdin; only "yes" is yes, and what is neither yes nor no
// is asked again.
func (c *cli) confirmed(question string) bool {
	in := bufio.NewReader(c.input(os.Stdin))
	for {
		fmt.Fprint(c.stderr, question)
		answer, err := in.ReadString('\n')
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "yes":
			return err == nil
		case "n", "no", "":
			return false
		}
		if err != nil {
			return false
		}
		question = "Please type yes or no in full: "
	}
}

// target finds a target in the configuration alone: nothing else need exist.
func (c *cli) target(name string) (config.Target, error) {
	cfg, err := c.load()
	if err != nil {
		return config.Target{}, err
	}
	return (&app.App{Config: cfg}).Target(name)
}
