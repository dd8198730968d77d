package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/offsite/sftp"
)

// Target finds a configured target; "" means the only one there is.
func (a *App) Target(name string) (config.Target, error) {
	targets := a.Config.Offsite
	var names []string
	for _, t := range targets {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	switch {
	case len(targets) == 0:
		return config.Target{}, &failure.Error{Op: "target", Subject: name, Kind: failure.Usage, Err: errors.New("no target is configured"), Hint: "add an [[offsite]] table to " + a.Config.Path}
	case name == "" && len(targets) == 1:
		return targets[0], nil
	case name == "":
		return config.Target{}, &failure.Error{Op: "target", Kind: failure.Usage, Err: errors.New("there are several"), Hint: "name one with --target: " + strings.Join(names, ", ")}
	}
	return config.Target{}, &failure.Error{Op: "target", Subject: name, Kind: failure.Usage, Err: errors.New("no such target"), Hint: "configured are: " + strings.Join(names, ", ")}
}

// SFTPConfig turns a target's configuration into what package sftp takes.
func SFTPConfig(t config.Target) sftp.Config {
	return sftp.Config{
		Name: t.Name, Hosts: t.Hosts, Port: t.Port, User: t.User, IdentityFile: t.IdentityFile, KnownHosts: t.KnownHosts,
		Path: t.Path, Transport: t.Transport, BandwidthLimit: t.BandwidthLimit.Bytes(), AppendOnly: t.AppendOnly,
	}
}

// dial connects to a target. A dir target that was never used may be made; one
// that was is not, for its disk may just not be mounted.
func (a *App) dial(ctx context.Context, t config.Target, known bool) (offsite.Remote, error) {
	switch {
	case t.Type == "sftp":
		return sftp.Dial(ctx, SFTPConfig(t))
	case known:
		return dir.Open(t.Path)
	default:
		return dir.Create(t.Path)
	}
}

// openVault is a target's open vault with what goes with it.
type openVault struct {
	target config.Target
	remote offsite.Remote
	state  *offsite.State
	vault  *offsite.Vault
	signer *crypt.Signer
}

func (v *openVault) close() { v.remote.Close() }

// openVault connects to a target and opens the vault that is pinned for it.
func (a *App) openVault(ctx context.Context, t config.Target, repin bool) (v *openVault, err error) {
	v = &openVault{target: t}
	if v.state, err = offsite.LoadState(a.Config.StateDir, t.Name); err != nil {
		return nil, err
	}
	if v.signer, err = a.Signer(); err != nil {
		return nil, err
	}
	if v.remote, err = a.dial(ctx, t, v.state.VaultID != "" && !repin); err != nil {
		return nil, withTarget(t.Name, err)
	}
	r := t.Policy(a.Config.Retention)
	create := offsite.VaultInfo{
		Created: time.Now().UTC().Truncate(time.Second), Host: a.Options.Host, Signer: v.signer.AuthorizedKey(),
		Retention: offsite.Policy{Daily: r.Daily, Weekly: r.Weekly, Monthly: r.Monthly, PreRestoreDays: r.PreRestoreDays,
			InvalidDays: r.InvalidDays, MaxDeleteFraction: r.MaxDeleteFraction, Timezone: a.Config.Schedule.Timezone},
	}
	if v.vault, err = offsite.OpenPinned(ctx, v.remote, v.state, create, repin); err != nil {
		v.remote.Close()
		return nil, withTarget(t.Name, err)
	}
	return v, nil
}

// withTarget says which target an error is about, unless it says so itself.
func withTarget(target string, err error) error {
	if strings.Contains(err.Error(), target) {
		return err
	}
	return fmt.Errorf("target %s: %w", target, err)
}

// InitVault accepts the vault that is on a target now, or begins one there.
func (a *App) InitVault(ctx context.Context, t config.Target) (offsite.VaultInfo, error) {
	lock, err := offsite.LockTarget(ctx, a.Config.StateDir, t.Name, "vault init", a.Options.LockTimeout, a.waitingFor(t.Name))
	if err != nil {
		return offsite.VaultInfo{}, err
	}
	defer lock.Unlock()
	v, err := a.openVault(ctx, t, true)
	if err != nil {
		return offsite.VaultInfo{}, err
	}
	defer v.close()
	return v.vault.Info, nil
}

func (a *App) waitingFor(target string) func(string) {
	return func(holder string) { a.notice("target " + target + ": waiting for " + holder) }
}

// TestTarget connects to a target, looks for its vault and says what it found.
func (a *App) TestTarget(ctx context.Context, t config.Target) (lines []string, err error) {
	remote, err := a.dial(ctx, t, true)
	if err != nil {
		return nil, withTarget(t.Name, err)
	}
	defer remote.Close()
	if s, ok := remote.(*sftp.Remote); ok {
		lines = append(lines, "connected to "+s.Host())
	}
	free, err := remote.Free(ctx)
	if err != nil {
		return lines, withTarget(t.Name, err)
	}
	if free >= 0 {
		lines = append(lines, fmt.Sprintf("%d MiB are free", free>>20))
	}
	vault, err := offsite.OpenVault(ctx, remote)
	if errors.Is(err, offsite.ErrNoVault) {
		return append(lines, "no vault yet: the first sync makes it"), nil
	}
	if err != nil {
		return lines, withTarget(t.Name, err)
	}
	list, _, err := vault.List(ctx)
	if err != nil {
		return lines, withTarget(t.Name, err)
	}
	return append(lines, fmt.Sprintf("vault %s of host %s with %d snapshots", vault.Info.ID, vault.Info.Host, len(list))), nil
}
