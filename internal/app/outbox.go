package app

import (
	"slices"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/notify"
)

// OutboxFor reads the addresses of the configuration.
func OutboxFor(c *config.Config) (*notify.Outbox, error) {
	addresses := slices.Clone(c.Notify.URLs)
	if c.Notify.URLsFile != "" {
		more, err := notify.ReadFile(c.Notify.URLsFile)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, more...)
	}
	return notify.Parse(addresses)
}
