package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/offsite"
)

func newVaultList(c *cli) *cobra.Command {
	var f vaultFlags
	var identity string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the snapshots in the vault, oldest first",
		Long: `List the snapshots in the vault that its signer has signed, oldest first. With
--identity, say of each whether that key opens it, and which keys do: only the
encrypted manifests name them.`,
		Example: "  atobackupd vault list --dir /home/atobackup/vault\n  atobackupd vault list --identity key.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) error {
				return c.listVault(cmd.Context(), v, identity)
			})
		},
	}
	f.register(c, cmd)
	f.registerSigner(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "a secret key `file`: say what it opens, and who else can")
	return cmd
}

// listVault shows what a vault holds and, with an identity, what that opens.
func (c *cli) listVault(ctx context.Context, v *app.Vault, identity string) error {
	look, err := v.Survey(ctx, v.Signers)
	if err != nil {
		return err
	}
	list, warnings := look.All(), look.Warnings
	type entry struct {
		Push offsite.PushID `json:"push"`
		offsite.Info
		Superseded bool      `json:"superseded,omitempty"` // a later push of the stamp is there
		Uploaded   time.Time `json:"uploaded"`
		Recipients []string  `json:"recipients,omitempty"` // with --identity: who can open it; none where it cannot
	}
	doc := struct {
		Vault     offsite.VaultInfo `json:"vault"`
		Snapshots []entry           `json:"snapshots"`
		Warnings  []string          `json:"warnings"`
	}{v.Info, []entry{}, append([]string{}, warnings...)}
	var who map[offsite.PushID][]string
	if identity != "" {
		identities, err := c.identities(identity)
		if err != nil {
			return err
		}
		if who, err = v.WhoCanOpen(ctx, list, identities); err != nil {
			return err
		}
	}
	for _, s := range list {
		doc.Snapshots = append(doc.Snapshots,
			entry{s.Push, s.Info, look.IsSuperseded(s.Push), s.Uploaded.UTC(), who[s.Push]})
	}
	return c.emit(doc, func(w io.Writer) {
		t := newTable(column{title: "STAMP"}, column{title: "KIND"}, column{title: "CHROMA"},
			column{title: "NUMBER", drop: 1, right: true},
			column{title: "ARRIVED (UTC)", drop: 2}, column{title: "PUSH"})
		for _, s := range list {
			t.row(string(s.Stamp), string(s.Kind), yes(s.Full), fmt.Sprint(s.Seq),
				s.Uploaded.UTC().Format("2006-01-02 15:04"), pushName(look, s.Push))
		}
		t.print(w, c.width())
		if identity != "" {
			printWho(w, list, who)
		}
		for _, warning := range warnings {
			fmt.Fprintln(w, "warning:", warning)
		}
		fmt.Fprintf(w, "%s in %s\n", count(len(list), "snapshot"), v.Info)
	})
}

// pushName is a push, and that a later one of its stamp has replaced it.
func pushName(look *offsite.Survey, push offsite.PushID) string {
	if look.IsSuperseded(push) {
		return string(push) + " (superseded)"
	}
	return string(push)
}

// printWho groups snapshots by the keys that open them.
func printWho(w io.Writer, list []offsite.Stored, who map[offsite.PushID][]string) {
	last := ""
	for _, s := range list {
		keys := "this identity does not open it"
		if recipients, ok := who[s.Push]; ok {
			keys = "opened by " + strings.Join(recipients, ", ")
		}
		if keys != last {
			fmt.Fprintf(w, "from %s: %s\n", s.Stamp, keys)
			last = keys
		}
	}
}
