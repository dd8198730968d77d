package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// addressesFile is where the last good addresses lie, in state_dir; refusedFile
// says which refused configuration people were told of.
const (
	addressesFile = "notify-addresses.json"
	refusedFile   = "notify-refused"
)

// KeepAddresses writes down whom a good configuration tells, for a daemon that
// later cannot read its configuration, and forgets that one was refused.
func KeepAddresses(c *config.Config) error {
	who, err := addresseesOf(c)
	if err != nil {
		return err
	}
	data, err := json.Marshal(who)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(c.StateDir, refusedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return fsx.WriteFile(filepath.Join(c.StateDir, addressesFile), data, 0o600)
}

// TellRefused tells the last good addresses in stateDir that a configuration was
// refused when the daemon started: once, and again after a day, however often
// the service manager starts it.
func TellRefused(ctx context.Context, stateDir, host string, refusal error, now time.Time) error {
	data, err := os.ReadFile(filepath.Join(stateDir, addressesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil // no daemon ever started here
	}
	var who addressees
	if err == nil {
		err = json.Unmarshal(data, &who)
	}
	if err != nil {
		return fmt.Errorf("the last good addresses: %w", err)
	}
	sum := sha256.Sum256([]byte(refusal.Error()))
	mark, told := filepath.Join(stateDir, refusedFile), hex.EncodeToString(sum[:])
	if before, err := os.ReadFile(mark); err == nil && string(before) == told {
		if info, err := os.Stat(mark); err == nil && now.Sub(info.ModTime()).Abs() < 24*time.Hour {
			return nil
		}
	}
	outbox, err := notify.Parse(who.URLs, who.Command)
	if err != nil || outbox.Len() == 0 {
		return err
	}
	reached, err := outbox.Send(ctx, now, notify.Message{Title: "atobackupd on " + host +
		": the configuration is refused", Level: notify.Critical,
		Body: "CRITICAL config: the daemon does not start, and no backup is taken: " + refusal.Error() +
			"\nLook: atobackupd config check"})
	if !reached {
		return err
	}
	return errors.Join(err, fsx.WriteFile(mark, []byte(told), 0o600))
}
