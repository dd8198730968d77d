package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Synced is the document of `sync` for one target.
type Synced struct {
	Target   string           `json:"target"`
	State    string           `json:"state"` // ok, unreachable, auth_failed, host_key_mismatch, vault_mismatch, no_space, stale, error
	Pushed   []offsite.Pushed `json:"pushed"`
	Skipped  []string         `json:"skipped"` // wanted there and not sent: a dry run, or damaged here
	Error    string           `json:"error"`
	Pruned   []snapshot.Stamp `json:"pruned"`
	Warnings []string         `json:"warnings"`

	err error
}

// Sync brings the targets up to date: all of them, or the one named. They fail
// independently. The error is nil when all are, of kind Unreachable when those
// that are not did not answer, and Other when anything else went wrong.
func (a *App) Sync(ctx context.Context, target string, dryRun bool) ([]Synced, error) {
	targets := a.Config.Offsite
	if target != "" || len(targets) == 0 {
		t, err := a.Target(target)
		if err != nil {
			return nil, err
		}
		targets = []config.Target{t}
	}
	docs := []Synced{}
	for _, t := range targets {
		if ctx.Err() != nil {
			return docs, ctx.Err()
		}
		docs = append(docs, a.syncOne(ctx, t, dryRun))
	}
	return docs, syncFailure(docs)
}

func syncFailure(docs []Synced) error {
	var unreachable, failed []string
	for _, d := range docs {
		switch {
		case d.err == nil:
		case failure.KindOf(d.err) == failure.Interrupted:
			return d.err
		case failure.KindOf(d.err) == failure.Unreachable:
			unreachable = append(unreachable, d.err.Error())
		default:
			failed = append(failed, d.err.Error())
		}
	}
	switch {
	case len(failed) > 0:
		return &failure.Error{Op: "sync", Err: errors.New(strings.Join(append(failed, unreachable...), "; "))}
	case len(unreachable) > 0:
		return &failure.Error{Op: "sync", Kind: failure.Unreachable, Err: errors.New(strings.Join(unreachable, "; ")), Hint: "it is tried again later"}
	}
	return nil
}

// stateOf names what became of a target, by the contract of `sync`.
func stateOf(err error) string {
	if err == nil {
		return "ok"
	}
	switch failure.KindOf(err) {
	case failure.Unreachable:
		return "unreachable"
	case failure.Auth:
		return "auth_failed"
	case failure.HostKey:
		return "host_key_mismatch"
	case failure.VaultMismatch:
		return "vault_mismatch"
	case failure.NoSpace:
		return "no_space"
	case failure.Stale:
		return "stale"
	}
	return "error"
}

// syncOne brings one target up to date.
func (a *App) syncOne(ctx context.Context, t config.Target, dryRun bool) Synced {
	doc := Synced{Target: t.Name, Pushed: []offsite.Pushed{}, Skipped: []string{}, Pruned: []snapshot.Stamp{}, Warnings: []string{}}
	work := func(run *history.Run) error {
		recipients, err := a.recipients()
		if err != nil {
			return err
		}
		lock, err := offsite.LockTarget(ctx, a.Config.StateDir, t.Name, "sync", a.Options.LockTimeout, a.waitingFor(t.Name))
		if err != nil {
			return err
		}
		defer lock.Unlock()
		v, err := a.openVault(ctx, t, false)
		if err != nil {
			return err
		}
		defer v.close()
		err = a.ship(ctx, v, recipients, dryRun, &doc)
		for _, p := range doc.Pushed {
			run.Bytes += p.Bytes
		}
		if err != nil || dryRun || !t.Prune {
			return err
		}
		return a.pruneVault(ctx, v, &doc)
	}
	if dryRun {
		doc.err = work(&history.Run{})
	} else {
		doc.err = a.runJob(ctx, "sync:"+t.Name, health.LegOffsite(t.Name), history.Run{}, work)
	}
	doc.State = stateOf(doc.err)
	if doc.err != nil {
		doc.Error = doc.err.Error()
	}
	return doc
}

// ship pushes what the vault should have, newest first. A vault that is behind
// what was written is told of, and gets its snapshots all the same.
func (a *App) ship(ctx context.Context, v *openVault, recipients *crypt.Recipients, dryRun bool, doc *Synced) error {
	stored, warnings, err := v.vault.ListVerified(ctx, v.signer.AuthorizedKey())
	if err != nil {
		return err
	}
	doc.Warnings = append(doc.Warnings, warnings...)
	stale := v.state.CheckSeq(stored)
	list, _, err := a.Snapshots(ctx, time.Now())
	if err != nil {
		return err
	}
	byStamp := make(map[snapshot.Stamp]snapshot.Snapshot, len(list))
	for _, s := range list {
		byStamp[s.Stamp] = s
	}
	policy := a.Policy(v.target.Policy(a.Config.Retention))
	var damage []string
	wanted := offsite.InterruptedFirst(offsite.StateDir(a.Config.StateDir, v.target.Name), offsite.MissingSnapshots(planned(list), stored, policy, time.Now()))
	for _, stamp := range wanted {
		if dryRun {
			doc.Skipped = append(doc.Skipped, string(stamp))
			continue
		}
		pushed, err := a.push(ctx, v, byStamp[stamp], recipients, offsite.PushOptions{Seq: v.state.NextSeq(stored)})
		switch {
		case failure.KindOf(err) == failure.NotFound || errors.Is(err, fs.ErrNotExist):
			continue // pruned meanwhile: forgotten
		case failure.KindOf(err) == failure.Invalid:
			// Rot in one snapshot must not keep the others here.
			doc.Skipped = append(doc.Skipped, string(stamp))
			doc.Warnings = append(doc.Warnings, err.Error())
			continue
		case err != nil:
			return withTarget(v.target.Name, err)
		}
		doc.Pushed = append(doc.Pushed, pushed)
		doc.Warnings = append(append(doc.Warnings, pushed.Warnings...), pushed.Damage...)
		damage = append(damage, pushed.Damage...)
	}
	stored, _, err = v.vault.ListVerified(ctx, v.signer.AuthorizedKey())
	if err != nil {
		return err
	}
	if err := v.state.RecordListing(stored); err != nil {
		return err
	}
	if len(doc.Skipped) > 0 && !dryRun {
		return fmt.Errorf("target %s: %d snapshots were not sent: %s", v.target.Name, len(doc.Skipped), strings.Join(doc.Warnings, "; "))
	}
	if len(damage) > 0 {
		return &failure.Error{Op: "sync", Subject: v.target.Name, Err: fmt.Errorf("the vault has lost packs: %s", strings.Join(damage, "; ")),
			Hint: "what the newest snapshot needs was sent anew; look at the disk there, and see `atobackupd vault verify` for what older ones have lost"}
	}
	return stale
}

func (a *App) recipients() (*crypt.Recipients, error) {
	return crypt.LoadRecipients(a.Config.Encryption.Recipients, a.Config.Encryption.RecipientsFile)
}

// push ships one snapshot while it is held against pruning. o says its number
// and whether it is to be a new base; the rest is the configuration's.
func (a *App) push(ctx context.Context, v *openVault, s snapshot.Snapshot, recipients *crypt.Recipients, o offsite.PushOptions) (offsite.Pushed, error) {
	lock, err := a.store.Hold(s.Stamp)
	if err != nil {
		return offsite.Pushed{}, err
	}
	defer lock.Unlock()
	files, err := s.Inventory(ctx)
	if err != nil {
		return offsite.Pushed{}, err
	}
	src := offsite.Source{Dir: s.Path, Files: files, Host: a.Options.Host,
		Info: offsite.Info{Stamp: s.Stamp, Kind: s.Kind, Full: s.Full, Pinned: s.Pinned}}
	o.Recipients, o.Signer, o.Level = recipients, v.signer, a.Config.Encryption.Compression
	o.StateDir = offsite.StateDir(a.Config.StateDir, v.target.Name)
	o.BaseDir = filepath.Join(a.Config.Backup.Dir, "base", v.target.Name)
	o.RebaseRatio = v.target.RebaseRatio
	o.Progress = fsx.Progress(a.progress).Prefix(v.target.Name)
	pushed, err := v.vault.Push(ctx, src, o)
	if err != nil {
		return pushed, err
	}
	if err := v.state.RecordPush(s.Stamp, pushed.Seq); err != nil {
		return pushed, err
	}
	a.Options.Log.Info("pushed a snapshot", "target", v.target.Name, "stamp", s.Stamp, "bytes", pushed.Bytes, "packs", pushed.Packs)
	a.NoteHistoryError(a.history.AddPush(ctx, history.Push{Target: v.target.Name, Stamp: string(s.Stamp), Push: string(pushed.Push), Seq: pushed.Seq,
		Bytes: pushed.Bytes, Packs: pushed.Packs, Duration: time.Duration(pushed.DurationMS) * time.Millisecond, At: time.Now()}))
	return pushed, nil
}

// pruneVault thins the vault out from this side.
func (a *App) pruneVault(ctx context.Context, v *openVault, doc *Synced) error {
	list, _, err := a.Snapshots(ctx, time.Now())
	if err != nil {
		return err
	}
	pinned := make(map[string]bool, len(list)) // here, since it was sent
	for _, s := range list {
		pinned[string(s.Stamp)] = s.Pinned
	}
	pruned, err := v.vault.Prune(ctx, time.Now(), offsite.PruneOptions{
		Policy: a.Policy(v.target.Policy(a.Config.Retention)), Signer: v.signer.AuthorizedKey(),
		Adjust: func(s *retention.Snapshot) {
			if here, ok := pinned[s.Stamp]; ok {
				s.Pinned = here
			}
		},
	})
	doc.Warnings = append(doc.Warnings, pruned.Warnings...)
	doc.Pruned = append(doc.Pruned, pruned.Deleted...)
	if err != nil {
		return withTarget(v.target.Name, err)
	}
	if len(pruned.Deleted) == 0 {
		return nil
	}
	stored, _, err := v.vault.ListVerified(ctx, v.signer.AuthorizedKey())
	if err != nil {
		return err
	}
	return v.state.RecordListing(stored)
}

// RebaseVault sends the newest snapshots anew, as a base of their own that
// refers to no older pack: the newest full one, and what is newer than that.
// Afterwards the recipients of today alone can open what they need.
func (a *App) RebaseVault(ctx context.Context, t config.Target) ([]offsite.Pushed, error) {
	recipients, err := a.recipients()
	if err != nil {
		return nil, err
	}
	lock, err := offsite.LockTarget(ctx, a.Config.StateDir, t.Name, "vault rebase", a.Options.LockTimeout, a.waitingFor(t.Name))
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	v, err := a.openVault(ctx, t, false)
	if err != nil {
		return nil, err
	}
	defer v.close()
	now := time.Now()
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return nil, err
	}
	var all []offsite.Pushed
	for i, s := range rebased(list, now) {
		stored, _, err := v.vault.ListVerified(ctx, v.signer.AuthorizedKey())
		if err != nil {
			return all, withTarget(t.Name, err)
		}
		pushed, err := a.push(ctx, v, s, recipients, offsite.PushOptions{Seq: v.state.NextSeq(stored), Rebase: i == 0})
		if err != nil {
			return all, withTarget(t.Name, err)
		}
		all = append(all, pushed)
	}
	if len(all) == 0 {
		return nil, &failure.Error{Op: "vault rebase", Subject: t.Name, Kind: failure.NotFound, Err: errors.New("there is no valid snapshot"), Hint: "take one: atobackupd backup"}
	}
	return all, nil
}

// rebased returns the snapshots that a new base is made of, oldest first: the
// newest full one and, where it is newer, the newest of all.
func rebased(list []snapshot.Snapshot, now time.Time) (chosen []snapshot.Snapshot) {
	newest, full := snapshot.Newest(list, now, false), snapshot.Newest(list, now, true)
	if full != nil && full != newest {
		chosen = append(chosen, *full)
	}
	if newest != nil {
		chosen = append(chosen, *newest)
	}
	return chosen
}
