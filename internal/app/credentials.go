package app

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"

	"github.com/atocore/atobackupd/internal/config"
)

// WithCredentials puts systemd's credentials (LoadCredential=, in dir) in the
// place of the files of the same name that the configuration names: the service
// then reads keys that only root can, and the same configuration serves `sudo
// atobackupd sync`. A blank credential is the unit's word for a file that does
// not exist. It returns a configuration of its own; dir "" changes nothing.
func WithCredentials(cfg *config.Config, dir string) *config.Config {
	own := *cfg
	own.Offsite = slices.Clone(cfg.Offsite)
	if dir == "" {
		return &own
	}
	replace := func(path *string) {
		credential := filepath.Join(dir, filepath.Base(*path))
		if data, err := os.ReadFile(credential); *path != "" && err == nil && len(bytes.TrimSpace(data)) > 0 {
			*path = credential
		}
	}
	for i := range own.Offsite {
		replace(&own.Offsite[i].IdentityFile)
		replace(&own.Offsite[i].CredentialsFile)
	}
	replace(&own.Notify.URLsFile)
	replace(&own.HTTP.TokenFile)
	replace(&own.Encryption.RecipientsFile)
	return &own
}
