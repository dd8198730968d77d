package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// pruneOptions are those of a prune of this vault: by the configuration for a
// target, by the vault's own policy in a directory, which signed documents may
// lengthen.
func (v *Vault) pruneOptions(ctx context.Context) (o offsite.PruneOptions, err error) {
	o.Signers = v.Signers
	if o.Policy, err = v.ownPolicy(); err != nil {
		return o, err
	}
	if v.target == nil {
		o.SecondMachine = true
		o.TrustBefore, err = trustedTimes(v.Info.ID)
		return o, err
	}
	list, _, err := v.app.Snapshots(ctx, time.Now())
	if err != nil {
		return o, err
	}
	here := make(map[string]retention.Snapshot, len(list))
	for _, s := range list {
		here[string(s.Stamp)] = ForRetention(s)
	}
	// A pin, and whether a change was accepted, are known here since it was sent.
	o.Adjust = func(s *retention.Snapshot) {
		if now, ok := here[s.Stamp]; ok {
			s.Pinned, s.Suspect = now.Pinned, now.Suspect
		}
	}
	o.Known = func(push offsite.PushID) bool { _, ok := v.state.Pushes[push]; return ok }
	o.Leaving = v.state.RecordLeaving
	return o, nil
}

// Thin prunes a vault. For a target it takes the target's lock.
func (v *Vault) Thin(ctx context.Context, now time.Time, ask offsite.PruneOptions) (pruned offsite.Pruned, err error) {
	if v.target != nil {
		lock, err := v.app.lockTarget(ctx, v.Name, "vault prune")
		if err != nil {
			return pruned, err
		}
		defer lock.Unlock()
	}
	o, err := v.pruneOptions(ctx)
	if err != nil {
		return pruned, err
	}
	o.DryRun, o.Confirm, o.Now = ask.DryRun, ask.Confirm, ask.Now
	if !o.DryRun && v.target != nil && v.target.AppendOnly {
		return pruned, &failure.Error{Op: "vault prune", Subject: v.Name, Kind: failure.Refused,
			Err: errors.New("the target is append-only"), Hint: "run it on the second machine, with --dir"}
	}
	pruned, err = v.Prune(ctx, now, o)
	if v.target == nil || o.DryRun {
		return pruned, err
	}
	return pruned, errors.Join(err, v.recordPruned(ctx, pruned))
}

// recordPruned notes what a prune of ours has removed: it was not taken away.
func (v *Vault) recordPruned(ctx context.Context, pruned offsite.Pruned) error {
	gone := make(map[offsite.PushID]bool)
	for _, s := range pruned.Superseded {
		if s.Due {
			gone[s.Push] = true
		}
	}
	err := v.state.RecordRemoved(func(push offsite.PushID) bool {
		stamp, _ := push.Stamp()
		return gone[push] || slices.Contains(pruned.Deleted, stamp)
	})
	if err != nil || len(pruned.Deleted) == 0 {
		return err
	}
	stored, _, err := v.ListVerified(ctx, v.Signers)
	if err != nil {
		return err
	}
	return v.state.RecordListing(stored)
}

// pruneVault thins the vault out from this side, where the target says so.
func (a *App) pruneVault(ctx context.Context, v *Vault, doc *Synced) (pruned offsite.Pruned, err error) {
	if !v.target.Prune || v.target.AppendOnly {
		return pruned, nil
	}
	o, err := v.pruneOptions(ctx)
	if err != nil {
		return pruned, err
	}
	pruned, err = v.Prune(ctx, time.Now(), o)
	for _, warning := range pruned.Warnings {
		if !slices.Contains(doc.Warnings, warning) {
			doc.Warnings = append(doc.Warnings, warning)
		}
	}
	doc.Pruned = append(doc.Pruned, pruned.Deleted...)
	return pruned, errors.Join(err, v.recordPruned(ctx, pruned))
}

// putDocuments writes what a vault holds beside its snapshots, where it has
// changed: the policy, the sealed host document, the script that brings snapshots
// back. What cannot be written is a warning: the snapshots are there.
func (a *App) putDocuments(ctx context.Context, v *Vault, recipients *crypt.Recipients, doc *Synced) error {
	warn := func(what string, err error) error {
		if err != nil && !gaveUp(ctx, err) {
			doc.Warnings = append(doc.Warnings, fmt.Sprintf("the %s cannot be sent: %v; where the target is "+
				"append-only, run `atobackupd vault init --dir` there", what, err))
			err = nil
		}
		return err
	}
	if err := warn("policy document", a.putPolicy(ctx, v)); err != nil {
		return err
	}
	if err := warn("host document", a.putHost(ctx, v, recipients)); err != nil {
		return err
	}
	if err := warn("recover.py", a.renewScript(ctx, v, doc)); err != nil {
		return err
	}
	return warn("documents", a.mendDocuments(ctx, v, doc))
}

// mendDocuments ends the findings about documents, now that sound ones have been
// written after them, and removes the damaged ones where that is allowed.
func (a *App) mendDocuments(ctx context.Context, v *Vault, doc *Synced) error {
	for _, f := range v.checks.Damaged() {
		if !offsite.IsDocument(f.Object) {
			continue
		}
		if !v.target.AppendOnly {
			if err := v.RemoveDocument(ctx, f.Object); err != nil {
				return err
			}
		}
		v.checks.Clean(f.Object, 0, time.Now())
		doc.Mended = append(doc.Mended, f.String())
	}
	return nil
}

func (a *App) putPolicy(ctx context.Context, v *Vault) error {
	list, _, err := a.Snapshots(ctx, time.Now())
	if err != nil {
		return err
	}
	policy := offsite.PolicyDocument{Retention: a.Policy(v.target.Retention), Forgotten: v.state.ForgottenPushes}
	for _, s := range list {
		if s.Pinned {
			policy.Pinned = append(policy.Pinned, s.Stamp)
		}
		switch {
		case len(s.Suspicions()) > 0:
			policy.Suspect = append(policy.Suspect, s.Stamp)
		case s.Manifest != nil && s.Manifest.AcceptedAt != nil:
			policy.Accepted = append(policy.Accepted, s.Stamp)
		}
	}
	before := maps.Clone(v.state.Documents)
	_, err = v.PutPolicy(ctx, policy, v.signer, v.Signers, v.state)
	if err != nil || maps.Equal(before, v.state.Documents) {
		return err
	}
	return v.state.Save()
}

func (a *App) putHost(ctx context.Context, v *Vault, recipients *crypt.Recipients) error {
	content, err := a.hostContent(ctx, v.Name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append(bytes.Clone(content), recipients.Fingerprint()...))
	digest := hex.EncodeToString(sum[:])
	if digest == v.state.Host && v.state.WroteHost() && !v.hasFinding("host/") {
		return nil
	}
	if _, err := v.PutHost(ctx, content, recipients, v.signer, v.state); err != nil {
		return err
	}
	v.state.Host = digest
	return v.state.Save()
}

// renewScript keeps a sound recover.py in the vault.
func (a *App) renewScript(ctx context.Context, v *Vault, doc *Synced) error {
	var repair []string
	for _, f := range v.checks.Damaged() {
		repair = append(repair, f.Object)
	}
	if v.state.Script == offsite.RecoverScriptSHA256() && !slices.ContainsFunc(repair, offsite.IsAround) {
		return nil
	}
	written, err := v.RenewScript(ctx, repair, !v.target.AppendOnly)
	if err != nil {
		return err
	}
	for _, name := range written {
		if slices.Contains(repair, name) {
			doc.Mended = append(doc.Mended, name)
			v.checks.Clean(name, 0, time.Now())
		}
	}
	v.state.Script = offsite.RecoverScriptSHA256()
	return errors.Join(v.state.Save(), v.checks.Save())
}

// hasFinding reports whether something below a directory was found damaged.
func (v *Vault) hasFinding(prefix string) bool {
	return slices.ContainsFunc(v.checks.Damaged(), func(f offsite.Finding) bool {
		return strings.HasPrefix(f.Object, prefix)
	})
}

// ForgetSnapshot takes one snapshot out of a vault, by its stamp or its push, also one
// that is damaged or that nothing counts. It is not sent again.
func (v *Vault) ForgetSnapshot(ctx context.Context, name string) (gone []offsite.PushID, err error) {
	if v.target != nil {
		if v.target.AppendOnly {
			return nil, &failure.Error{Op: "vault forget", Subject: v.Name, Kind: failure.Refused,
				Err: errors.New("the target is append-only"), Hint: "run it on the second machine, with --dir"}
		}
		lock, err := v.app.lockTarget(ctx, v.Name, "vault forget")
		if err != nil {
			return nil, err
		}
		defer lock.Unlock()
		known := slices.DeleteFunc(slices.Sorted(maps.Keys(v.state.Pushes)), func(push offsite.PushID) bool {
			stamp, ok := push.Stamp()
			return string(push) != name && (!ok || string(stamp) != name)
		})
		if err := v.state.RecordLeaving(known); err != nil {
			return nil, err
		}
	}
	gone, err = v.Forget(ctx, name, v.Signers)
	if failure.KindOf(err) == failure.NotFound && v.target != nil {
		// Somebody took it away there, and that is what is settled here.
		for push := range v.state.Pushes {
			if stamp, ok := push.Stamp(); ok && (string(push) == name || string(stamp) == name) {
				gone, err = append(gone, push), nil
			}
		}
	}
	if err != nil || v.target == nil {
		return gone, err
	}
	if stamp, err := snapshot.ParseStamp(name); err == nil && !v.state.IsForgotten(stamp) {
		v.state.Forgotten = append(v.state.Forgotten, stamp)
	}
	v.state.ForgottenPushes = append(v.state.ForgottenPushes, gone...)
	// What is known of a pack stays until the next sync: it must not build on one that
	// is damaged. What no snapshot needs, as recover.py, is as damaged as before.
	v.checks.Findings = slices.DeleteFunc(v.checks.Findings, func(f offsite.Finding) bool {
		left := slices.DeleteFunc(slices.Clone(f.Stamps), v.state.IsForgotten)
		return len(f.Stamps) > 0 && len(left) == 0 && !strings.HasPrefix(f.Object, "packs/")
	})
	for i := range v.checks.Findings {
		f := &v.checks.Findings[i]
		f.Stamps = slices.DeleteFunc(slices.Clone(f.Stamps), v.state.IsForgotten)
	}
	if err := v.state.RecordRemoved(func(push offsite.PushID) bool {
		stamp, ok := push.Stamp()
		return slices.Contains(gone, push) || ok && string(stamp) == name
	}); err != nil {
		return gone, err
	}
	v.state.Stamps = slices.DeleteFunc(v.state.Stamps, func(stamp snapshot.Stamp) bool {
		return holdsStamp(gone, stamp) && !holdsStamp(slices.Collect(maps.Keys(v.state.Pushes)), stamp)
	})
	return gone, errors.Join(v.state.Save(), v.checks.Save())
}

// holdsStamp reports whether one of the pushes is of a stamp.
func holdsStamp(pushes []offsite.PushID, stamp snapshot.Stamp) bool {
	return slices.ContainsFunc(pushes, func(push offsite.PushID) bool {
		of, ok := push.Stamp()
		return ok && of == stamp
	})
}

// SetVaultPolicy writes the retention of a vault in a directory into its
// vault.json.
func SetVaultPolicy(ctx context.Context, v *Vault, change func(*retention.Policy)) (retention.Policy, error) {
	policy := v.Info.Retention
	change(&policy)
	if err := policy.Check(); err != nil {
		return policy, &failure.Error{Op: "vault policy", Kind: failure.Usage, Err: err}
	}
	return policy, v.SetRetention(ctx, policy)
}

// targetsFor returns the one target that is named, or all.
func (a *App) targetsFor(name string) ([]config.Target, error) {
	if name == "" && len(a.Config.Offsite) > 0 {
		return a.Config.Offsite, nil
	}
	t, err := a.Target(name)
	return []config.Target{t}, err
}
