package app

import (
	"path/filepath"
	"slices"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/internal/health"
)

// sharedFact says that somebody else can write where the backups lie, or above.
func (a *App) sharedFact() *health.Trouble {
	owners := tree.Trusted(a.Config.StateDir)
	var offences []tree.Offence
	for _, name := range []string{"snapshots", "staging", "quarantine", "base"} {
		found, err := tree.Offences(filepath.Join(a.Config.Backup.Dir, name), owners)
		if err != nil {
			return trouble(err)
		}
		for _, o := range found {
			if !slices.ContainsFunc(offences, func(known tree.Offence) bool { return known.Path == o.Path }) {
				offences = append(offences, o)
			}
		}
	}
	return trouble(tree.Refusal(a.Config.Backup.Dir, offences))
}
