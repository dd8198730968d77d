package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/notify"
)

// addressees are who is told, as far as a file can say it.
type addressees struct {
	URLs    []string `json:"urls"`
	Command []string `json:"command"`
}

func addresseesOf(c *config.Config) (addressees, error) {
	who := addressees{URLs: slices.Clone(c.Notify.URLs), Command: c.Notify.Command}
	if c.Notify.URLsFile != "" {
		more, err := notify.ReadFile(c.Notify.URLsFile)
		if err != nil {
			return who, err
		}
		who.URLs = append(who.URLs, more...)
	}
	return who, nil
}

// OutboxFor reads the addresses of the configuration.
func OutboxFor(c *config.Config) (*notify.Outbox, error) {
	who, err := addresseesOf(c)
	if err != nil {
		return nil, err
	}
	return notify.Parse(who.URLs, who.Command)
}

// TestNotify sends a real message to every address of the configuration.
func TestNotify(ctx context.Context, c *config.Config, host string) (addresses int, err error) {
	outbox, err := OutboxFor(c)
	if err != nil {
		return 0, err
	}
	if outbox.Len() == 0 {
		return 0, &failure.Error{Op: "notify", Kind: failure.Config, Err: errors.New("there is no address to send to"),
			Hint: "set notify.urls, notify.urls_file or notify.command"}
	}
	_, err = outbox.Send(ctx, time.Now(), notify.Message{Title: "atobackupd on " + host + ": a test",
		Level: notify.Info,
		Body:  "This is a test. Messages about the backups of " + host + " arrive here."})
	if err != nil {
		return outbox.Len(), &failure.Error{Op: "notify test", Err: err,
			Hint: "look at the address, and whether this machine reaches it"}
	}
	return outbox.Len(), nil
}

// addressesFile is where the last good addresses lie, in state_dir.
const addressesFile = "notify-addresses.json"

// KeepAddresses writes down whom a good configuration tells, for a daemon that
// later cannot start.
func KeepAddresses(c *config.Config) error {
	who, err := addresseesOf(c)
	if err != nil {
		return err
	}
	data, err := json.Marshal(who)
	if err != nil {
		return err
	}
	return fsx.WriteFile(filepath.Join(c.StateDir, addressesFile), data, 0o600)
}

// keptAddresses reads what KeepAddresses wrote in stateDir. Nobody is told where no
// daemon ever started.
func keptAddresses(stateDir string) (*notify.Outbox, error) {
	var who addressees
	data, err := fsx.ReadRegular(filepath.Join(stateDir, addressesFile), mostDocument)
	if errors.Is(err, os.ErrNotExist) {
		return notify.Parse(nil, nil)
	}
	if err == nil {
		err = json.Unmarshal(data, &who)
	}
	if err != nil {
		return nil, fmt.Errorf("the last good addresses: %w", err)
	}
	return notify.Parse(who.URLs, who.Command)
}
