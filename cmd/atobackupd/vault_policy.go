package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/retention"
)

func newVaultPolicy(c *cli) *cobra.Command {
	var f vaultFlags
	var p retention.Policy
	var preRestoreDays int
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Show or change what the vault is pruned by where it lies",
		Long: `Show the retention in vault.json, which "vault prune --dir" goes by, or change
the counts that are given. The host's signed documents can lengthen it and pin,
never shorten it. A target's vault is pruned by the host's configuration
instead.`,
		Example: "  atobackupd vault policy --dir /home/atobackup/vault --daily 14 --monthly 12",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := cmd.Flags()
			set := map[string]func(*retention.Policy){
				"daily":           func(q *retention.Policy) { q.Daily = p.Daily },
				"weekly":          func(q *retention.Policy) { q.Weekly = p.Weekly },
				"monthly":         func(q *retention.Policy) { q.Monthly = p.Monthly },
				"timezone":        func(q *retention.Policy) { q.Location = p.Location },
				"keep-within":     func(q *retention.Policy) { q.KeepWithin = p.KeepWithin },
				"week-start":      func(q *retention.Policy) { q.WeekStart = p.WeekStart },
				"delete-fraction": func(q *retention.Policy) { q.MaxDeleteFraction = p.MaxDeleteFraction },
				"pre-restore": func(q *retention.Policy) {
					q.PreRestore = time.Duration(preRestoreDays) * retention.Day
				},
			}
			changed := false
			for name := range set {
				changed = changed || flags.Changed(name)
			}
			if changed && f.dir == "" {
				return needsDir("vault policy")
			}
			return c.withVault(cmd.Context(), &f, func(v *app.Vault) (err error) {
				policy := v.Info.Retention
				if changed {
					policy, err = app.SetVaultPolicy(cmd.Context(), v, func(q *retention.Policy) {
						for name, change := range set {
							if flags.Changed(name) {
								change(q)
							}
						}
					})
				}
				if err != nil {
					return err
				}
				return c.emit(policy, func(w io.Writer) {
					fmt.Fprintf(w, "daily %d, weekly %d, monthly %d; time zone %s\n",
						policy.Daily, policy.Weekly, policy.Monthly, policy.Location)
				})
			})
		},
	}
	f.register(c, cmd)
	flags := cmd.Flags()
	flags.IntVar(&p.Daily, "daily", 0, "how many days that have a snapshot")
	flags.IntVar(&p.Weekly, "weekly", 0, "how many weeks")
	flags.IntVar(&p.Monthly, "monthly", 0, "how many months")
	flags.DurationVar(&p.KeepWithin, "keep-within", 0, "every snapshot younger than this, e.g. 48h")
	flags.Func("week-start", "the first day of a week, e.g. monday", func(name string) (err error) {
		p.WeekStart, err = retention.ParseWeekday(name)
		return err
	})
	flags.IntVar(&preRestoreDays, "pre-restore", 0, "for how many days those taken before a restore")
	flags.Float64Var(&p.MaxDeleteFraction, "delete-fraction", 0, "hold a prune that would delete more than this part")
	flags.Func("timezone", "whose days, e.g. Europe/Berlin", func(name string) (err error) {
		p.Location, err = time.LoadLocation(name)
		return err
	})
	return cmd
}
