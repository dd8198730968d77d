package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/retention"
)

// VaultAccess is a vault opened for reading: a configured target's, or one that
// lies in a directory of this machine.
type VaultAccess struct {
	*offsite.Vault
	Name   string // the target's name or the directory
	Signer string // the public key that its snapshots must be signed with
	Pinned bool   // Signer is known from elsewhere than the vault itself

	remote offsite.Remote
}

// Close ends the connection.
func (v *VaultAccess) Close() error { return v.remote.Close() }

// OpenVaultDir opens the vault in a directory, with no configuration. signer is
// the key from the recovery sheet; "" takes the vault's own word for it.
func OpenVaultDir(ctx context.Context, path, signer string) (*VaultAccess, error) {
	remote, err := dir.Open(path)
	if err != nil {
		return nil, err
	}
	v, err := access(ctx, remote, path, signer)
	if err != nil {
		remote.Close()
	}
	return v, err
}

// OpenVaultTarget opens a configured target's vault for reading. Where this
// machine has its signing key, that is the signer; on a machine that lost it,
// signer comes from the recovery sheet, or is the vault's own word.
func (a *App) OpenVaultTarget(ctx context.Context, t config.Target, signer string) (*VaultAccess, error) {
	if signer == "" {
		state, err := offsite.LoadState(a.Config.StateDir, t.Name)
		if err != nil {
			return nil, err
		}
		if state.VaultID != "" {
			s, err := a.Signer()
			if err != nil {
				return nil, err
			}
			signer = s.AuthorizedKey()
		}
	}
	remote, err := a.dial(ctx, t, true)
	if err != nil {
		return nil, withTarget(t.Name, err)
	}
	v, err := access(ctx, remote, t.Name, signer)
	if err != nil {
		remote.Close()
		return nil, withTarget(t.Name, err)
	}
	return v, nil
}

func access(ctx context.Context, remote offsite.Remote, name, signer string) (*VaultAccess, error) {
	vault, err := offsite.OpenVault(ctx, remote)
	if errors.Is(err, offsite.ErrNoVault) {
		return nil, &failure.Error{Op: "vault", Subject: name, Kind: failure.NotFound, Err: err, Hint: "is this the vault's own directory, and is its disk mounted?"}
	}
	if err != nil {
		return nil, err
	}
	v := &VaultAccess{Vault: vault, Name: name, Signer: vault.Info.Signer, remote: remote}
	if signer != "" {
		if v.Signer, err = crypt.ParseSigner(signer); err != nil {
			return nil, &failure.Error{Op: "vault", Subject: "--signer", Kind: failure.Usage, Err: err}
		}
		v.Pinned = true
	}
	return v, nil
}

// Restore fetches one snapshot, by stamp or "latest", into a directory.
func (v *VaultAccess) Restore(ctx context.Context, name, identityFile, dest string, progress fsx.Progress) (offsite.Stored, error) {
	stored, err := v.Find(ctx, name)
	if err != nil {
		return stored, err
	}
	identities, err := crypt.LoadIdentities(identityFile)
	if err != nil {
		return stored, err
	}
	return stored, v.Pull(ctx, stored, dest, offsite.PullOptions{
		Identities: identities, Signer: v.Signer,
		Progress: progress.Prefix(v.Name),
	})
}

// VaultPolicy gives the retention that a vault names for itself.
func (v *VaultAccess) VaultPolicy() (retention.Policy, error) {
	p := v.Info.Retention
	location, err := time.LoadLocation(p.Timezone)
	if err != nil {
		return retention.Policy{}, &failure.Error{Op: "vault", Subject: v.Name, Kind: failure.Invalid, Err: fmt.Errorf("vault.json: %w", err)}
	}
	const day = 24 * time.Hour
	return retention.Policy{
		Daily: p.Daily, Weekly: p.Weekly, Monthly: p.Monthly,
		PreRestore: time.Duration(p.PreRestoreDays) * day, Invalid: time.Duration(p.InvalidDays) * day,
		MaxDeleteFraction: p.MaxDeleteFraction, Location: location,
	}, nil
}

// WhoCanOpen tells, of each snapshot, the recipients that its host recorded in
// its manifest, as far as the identity opens it.
func (v *VaultAccess) WhoCanOpen(ctx context.Context, list []offsite.Stored, identityFile string) (map[offsite.PushID][]string, error) {
	identities, err := crypt.LoadIdentities(identityFile)
	if err != nil {
		return nil, err
	}
	who := make(map[offsite.PushID][]string)
	for _, s := range list {
		recipients, err := v.Recipients(ctx, s, v.Signer, identities)
		if kind := failure.KindOf(err); kind == failure.Unreachable || kind == failure.Interrupted {
			return nil, err
		}
		if err == nil {
			who[s.Push] = recipients
		}
	}
	return who, nil
}

// Drill fetches one snapshot, by stamp or "latest", into a scratch directory
// below scratch ("" is the system's for temporary files), holds a restore drill
// with it there, and deletes everything. A drill that does not pass is a result
// and an error of kind Invalid.
func (v *VaultAccess) Drill(ctx context.Context, name, identityFile, scratch string, queries []string, progress fsx.Progress) (result restore.DrillResult, err error) {
	start := time.Now()
	dir, err := os.MkdirTemp(scratch, "atobackupd-vault-drill-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fetched := filepath.Join(dir, "snapshot")
	stored, err := v.Restore(ctx, name, identityFile, fetched, progress)
	if err != nil {
		return result, err
	}
	pulled := time.Since(start)
	result, err = restore.Drill(ctx, restore.DrillRequest{Dir: fetched, Stamp: stored.Stamp, Scratch: dir, Queries: queries, Share: true})
	if err != nil {
		return result, err
	}
	result.DurationsMS["pull"] = pulled.Milliseconds()
	result.DurationMS = time.Since(start).Milliseconds()
	return result, drillFailure(result)
}
