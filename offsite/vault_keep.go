package offsite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/retention"
)

// Forget removes the pushes that a name means: a stamp (all of its pushes, also
// damaged ones and those that lack their signature) or one push. The packs that
// nothing needs any more go by prune. Kind NotFound where there is none.
func (v *Vault) Forget(ctx context.Context, name string, signers crypt.Signers) (gone []PushID, err error) {
	entries, err := v.list(ctx, snapshotsDir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name, ".")
		push := PushID(base)
		stamp, ok := push.Stamp()
		if ok && (string(push) == name || string(stamp) == name) && !slices.Contains(gone, push) {
			gone = append(gone, push)
		}
	}
	if len(gone) == 0 {
		return nil, noSuchSnapshot(name)
	}
	for _, push := range gone {
		if err := v.removePush(ctx, push); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// SetRetention writes another retention into vault.json, where the vault lies: the
// old file is moved aside first, so that one of the two is always there.
func (v *Vault) SetRetention(ctx context.Context, p retention.Policy) error {
	info := v.Info
	info.Retention = p
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	suffix, err := randomHex(3)
	if err != nil {
		return err
	}
	aside := incomingDir + "/vault-" + suffix + ".json"
	if err := v.remote.Move(ctx, vaultFile, aside); err != nil {
		return err
	}
	if _, err := v.remote.Put(ctx, vaultFile, bytes.NewReader(append(data, '\n'))); err != nil {
		return errors.Join(err, v.remote.Move(ctx, aside, vaultFile))
	}
	v.Info = info
	return v.remote.Remove(ctx, aside)
}

// Stats says what is used by what in a vault.
type Stats struct {
	Snapshots []SnapshotStats `json:"snapshots"`
	Packs     Usage           `json:"packs"`    // in packs/
	Needed    Usage           `json:"needed"`   // packs that a proven push needs
	Unneeded  Usage           `json:"unneeded"` // packs that none does: they go after the waiting times
	Trash     Usage           `json:"trash"`
	Incoming  Usage           `json:"incoming"`
	Beside    Usage           `json:"beside"` // manifests, digests, documents
	Free      int64           `json:"free"`   // bytes that may still be written; -1 where nobody knows
	Warnings  []string        `json:"warnings"`
}

// Usage is a number of objects and their bytes.
type Usage struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (u *Usage) add(bytes int64) { u.Objects++; u.Bytes += bytes }

// SnapshotStats is what one push needs, and what would be free without it.
type SnapshotStats struct {
	Stored
	Superseded bool  `json:"superseded,omitempty"`
	Bytes      int64 `json:"bytes"` // of everything that it needs
	Only       int64 `json:"only"`  // of what no other push needs
}

// Stats adds up what lies in the vault. It reads no pack.
func (v *Vault) Stats(ctx context.Context, signers crypt.Signers) (s Stats, err error) {
	survey, err := v.Survey(ctx, signers)
	if err != nil {
		return s, err
	}
	s = Stats{Snapshots: []SnapshotStats{}, Warnings: append([]string{}, survey.Warnings...)}
	all := survey.All()
	needed := survey.neededBy(all)
	for _, p := range all {
		one := SnapshotStats{Stored: p, Superseded: survey.IsSuperseded(p.Push)}
		for name := range survey.needs[p.Push] {
			size, _ := survey.size(name)
			one.Bytes += size
			if len(needed[name]) == 1 {
				one.Only += size
			}
		}
		s.Snapshots = append(s.Snapshots, one)
	}
	for _, dir := range []string{packsDir, trashDir, incomingDir, snapshotsDir, policyDir, hostDir, reportsDir} {
		entries, err := v.list(ctx, dir)
		if err != nil {
			return s, err
		}
		for _, e := range entries {
			if e.Dir {
				continue
			}
			id, isPack := packID(packsDir + "/" + e.Name)
			_, used := needed[packName(id)]
			switch {
			case dir == packsDir && isPack:
				s.Packs.add(e.Size)
				if used {
					s.Needed.add(e.Size)
				} else {
					s.Unneeded.add(e.Size)
				}
			case dir == trashDir:
				s.Trash.add(e.Size)
			case dir == incomingDir:
				s.Incoming.add(e.Size)
			default:
				s.Beside.add(e.Size)
			}
		}
	}
	s.Free, err = v.remote.Free(ctx)
	if err != nil && !isTransportError(err) {
		s.Free, err = -1, nil
	}
	return s, err
}

// DirRemote is a Remote on this machine, where empty directories can be made.
type DirRemote interface {
	Remote
	MakeDirs(names ...string) error
	MakeReadOnly(names ...string) error
}

// InitDir makes a vault's directories at path on this machine, for an append-only
// account that may not make any. With a signer it lays vault.json, README.txt and
// recover.py too: then the vault's own directory can stay closed to the account.
// Run on an older vault it adds what is missing.
func InitDir(ctx context.Context, remote DirRemote, info VaultInfo) (*Vault, error) {
	if err := remote.MakeDirs(directories...); err != nil {
		return nil, err
	}
	v, err := OpenVault(ctx, remote)
	if err == nil {
		return v, protect(ctx, remote) // an older vault, whose directories are whole now
	}
	if !errors.Is(err, ErrNoVault) || info.Signer == "" {
		if errors.Is(err, ErrNoVault) {
			err = nil
		}
		return nil, err
	}
	if info.Signer, err = crypt.ParseSigner(info.Signer); err != nil {
		return nil, &failure.Error{Op: "vault init", Subject: "--signer", Kind: failure.Usage, Err: err}
	}
	return NewVault(ctx, remote, info)
}

// protect takes the permission to write from what was laid on this machine for the
// account that owns it: recover.py and vault.json, which that account could write
// over in place. Versions before 0.2.0 left it.
func protect(ctx context.Context, remote DirRemote) error {
	for _, dir := range []string{".", reportsDir} {
		entries, err := remote.List(ctx, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if e.Dir || dir == "." && e.Name != vaultFile && e.Name != readmeFile && !IsRecoverScript(e.Name) {
				continue
			}
			if err := remote.MakeReadOnly(path.Join(dir, e.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}
