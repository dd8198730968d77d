package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/sftp"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Synced is the document of `sync` for one target.
type Synced struct {
	Target string `json:"target"`
	// ok, unreachable, auth_failed, host_key_mismatch, vault_mismatch, no_space, stale, error
	State    string           `json:"state"`
	Pushed   []offsite.Pushed `json:"pushed"`
	Skipped  []string         `json:"skipped"` // wanted there and not sent: a dry run, or damaged here
	Error    string           `json:"error"`
	Pruned   []snapshot.Stamp `json:"pruned"`
	Mended   []string         `json:"mended,omitempty"` // what was damaged there and is whole again
	Warnings []string         `json:"warnings"`

	err error
}

// Sync brings the targets up to date: all of them at once, or the one named. They
// fail independently, and none waits for another. The error is nil when all are,
// of kind Unreachable when those that are not did not answer, Locked when all
// that went wrong was that another process is at work there, and Other when
// anything else did.
func (a *App) Sync(ctx context.Context, target string, dryRun bool) ([]Synced, error) {
	targets := a.Config.Offsite
	if target != "" || len(targets) == 0 {
		t, err := a.Target(target)
		if err != nil {
			return nil, err
		}
		targets = []config.Target{t}
	}
	docs := make([]Synced, len(targets))
	var group sync.WaitGroup
	for i, t := range targets {
		group.Go(func() { docs[i] = a.syncOne(ctx, t, dryRun) })
	}
	group.Wait()
	return docs, syncFailure(docs)
}

func syncFailure(docs []Synced) error {
	var unreachable, failed []string
	kind := failure.Locked // where nothing else went wrong
	for _, d := range docs {
		switch {
		case d.err == nil:
		case failure.KindOf(d.err) == failure.Interrupted:
			return &failure.Error{Op: "sync", Kind: failure.Interrupted, Err: d.err,
				Hint: "what was sent stays there, and the next sync goes on from it"}
		case failure.KindOf(d.err) == failure.Unreachable:
			unreachable = append(unreachable, d.err.Error())
		default:
			failed = append(failed, d.err.Error())
			if failure.KindOf(d.err) != failure.Locked {
				kind = failure.Other
			}
		}
	}
	switch {
	case len(failed) > 0:
		text := strings.Join(append(failed, unreachable...), "; ")
		return &failure.Error{Op: "sync", Kind: kind, Err: errors.New(text)}
	case len(unreachable) > 0:
		return &failure.Error{Op: "sync", Kind: failure.Unreachable, Err: errors.New(strings.Join(unreachable, "; ")),
			Hint: "it is tried again later"}
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
		if errors.Is(err, sftp.ErrHostKeyUnknown) && !errors.Is(err, sftp.ErrHostKeyChanged) {
			return "host_key_unknown"
		}
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

// syncOne brings one target up to date, or with dryRun says what it lacks.
func (a *App) syncOne(ctx context.Context, t config.Target, dryRun bool) Synced {
	doc := Synced{Target: t.Name, Pushed: []offsite.Pushed{}, Skipped: []string{}, Pruned: []snapshot.Stamp{},
		Warnings: []string{}}
	if dryRun {
		doc.err = withTarget(t.Name, a.dryRun(ctx, t, &doc))
	} else {
		doc.err = a.runJob(ctx, "sync:"+t.Name, health.LegOffsite(t.Name), history.Run{}, func(run *jobRun) error {
			lock, err := a.lockTarget(ctx, t.Name, "sync")
			if err != nil {
				return withTarget(t.Name, err)
			}
			defer lock.Unlock()
			err = a.syncTarget(ctx, t, &doc, run.begun)
			for _, p := range doc.Pushed {
				run.Bytes += p.Bytes
			}
			return withTarget(t.Name, err)
		})
	}
	doc.State = stateOf(doc.err)
	if doc.err != nil {
		doc.Error = doc.err.Error()
	}
	return doc
}

// dryRun says which snapshots a target lacks. It makes nothing: no vault, no key,
// no directory.
func (a *App) dryRun(ctx context.Context, t config.Target, doc *Synced) error {
	var current []offsite.Stored
	v, err := a.lookAt(ctx, t)
	if err != nil {
		return err
	}
	if v != nil {
		defer v.Close()
		if current, _, err = v.ListVerified(ctx, v.Signers); err != nil {
			return err
		}
	}
	list, _, err := a.Snapshots(ctx, time.Now())
	if err != nil {
		return err
	}
	for _, stamp := range offsite.MissingSnapshots(a.planned(list), current, a.Policy(t.Retention), time.Now()) {
		doc.Skipped = append(doc.Skipped, string(stamp))
	}
	return nil
}

// lookAt opens a target's vault as far as it is there: nil where there is none yet.
func (a *App) lookAt(ctx context.Context, t config.Target) (*Vault, error) {
	state, err := offsite.LoadState(a.Config.StateDir, t.Name)
	if err != nil {
		return nil, err
	}
	v, err := a.OpenVaultTarget(ctx, t, nil)
	if failure.KindOf(err) == failure.NotFound && state.VaultID == "" {
		return nil, nil
	}
	if failure.KindOf(err) == failure.NotFound {
		return nil, hintAway(t, offsite.MissingVault(state))
	}
	if err == nil && state.VaultID != "" && v.LacksName() {
		v.Close()
		return nil, offsite.MissingVault(state)
	}
	if err == nil && state.VaultID != "" && v.Info.ID != state.VaultID {
		v.Close()
		return nil, hintAway(t, offsite.OtherVault(state, v.Info.ID))
	}
	return v, err
}

// syncTarget does the work of a sync under the target's lock: it ships, and
// whatever came of that it tidies up, so that a vault that is full can recover.
func (a *App) syncTarget(ctx context.Context, t config.Target, doc *Synced, begun func()) error {
	recipients, err := a.recipients()
	if err != nil {
		return err
	}
	v, err := a.openTarget(ctx, t, false)
	if err != nil {
		return err
	}
	defer v.Close()
	doc.Mended = append(doc.Mended, v.mended...)
	begun()
	freed := false
	err = a.ship(ctx, v, recipients, doc, &freed)
	if gaveUp(ctx, err) {
		return err
	}
	pruned, pruneErr := a.pruneVault(ctx, v, doc)
	if failure.KindOf(err) == failure.NoSpace && pruneErr == nil && len(pruned.Removed) > 0 && !freed {
		err = a.ship(ctx, v, recipients, doc, &freed) // there is room now
	}
	return errors.Join(err, pruneErr)
}

// gaveUp reports whether nothing more can be done there just now.
func gaveUp(ctx context.Context, err error) bool {
	switch failure.KindOf(err) {
	case failure.Unreachable, failure.Interrupted, failure.Auth, failure.HostKey:
		return true
	}
	return ctx.Err() != nil
}

// shipment is what one look at both sides says is to be sent.
type shipment struct {
	byStamp map[snapshot.Stamp]snapshot.Snapshot
	stored  []offsite.Stored
	healing offsite.Healing
	wanted  []snapshot.Stamp
	news    []offsite.Finding // damage that was not known before
	stale   error
}

// survey looks at the vault and at the snapshots here, and decides what is sent:
// what retention wants there and is missing, and what mends the findings.
func (a *App) survey(ctx context.Context, v *Vault, doc *Synced) (s shipment, err error) {
	look, err := v.Survey(ctx, v.Signers)
	if err != nil {
		return s, err
	}
	now := time.Now()
	doc.Warnings = append(doc.Warnings, look.Warnings...)
	s.stored = look.Current
	if err := v.state.SettleLeaving(look); err != nil {
		return s, err
	}
	s.stale = v.state.CheckSeq(look)
	v.state.Adopt(look)
	seen := look.Findings(v.state, v.checks, v.target.Prune)
	reported, err := v.TakeReports(ctx, look, v.checks)
	if err != nil {
		return s, err
	}
	s.news = append(v.checks.Add(seen, "sync", now), v.checks.Add(reported, "report", now)...)
	if err := v.checks.Save(); err != nil {
		return s, err
	}
	if v.target.Prune {
		if err := v.Uncover(ctx, seen); err != nil {
			return s, err
		}
	}
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return s, err
	}
	s.byStamp = make(map[snapshot.Stamp]snapshot.Snapshot, len(list))
	for _, local := range list {
		s.byStamp[local.Stamp] = local
	}
	s.healing = offsite.PlanHealing(look, v.checks.Damaged(), func(stamp snapshot.Stamp) bool {
		local, ok := s.byStamp[stamp]
		return ok && (local.Valid == nil || *local.Valid) && !v.state.IsForgotten(stamp)
	})
	plan, policy := a.planned(list), a.Policy(v.target.Retention)
	for _, stamp := range offsite.MissingSnapshots(asTaken(list, plan), look.Current, policy, now) {
		if local := s.byStamp[stamp]; damagedSince(local) {
			doc.Skipped = append(doc.Skipped, string(stamp))
			doc.Warnings = append(doc.Warnings, fmt.Sprintf("%s: damaged here: %s", stamp, firstFew(local.Errors)))
		}
	}
	missing := offsite.MissingSnapshots(plan, look.Current, policy, now)
	s.wanted = append(missing, s.healing.Again...)
	slices.Sort(s.wanted)
	s.wanted = slices.Compact(s.wanted)
	slices.Reverse(s.wanted)
	s.wanted = slices.DeleteFunc(s.wanted, v.state.IsForgotten)
	s.wanted = offsite.InterruptedFirst(offsite.StateDir(a.Config.StateDir, v.Name), s.wanted)
	return s, nil
}

// damagedSince reports whether a snapshot that was valid when it was taken is not
// any more.
func damagedSince(s snapshot.Snapshot) bool {
	return s.Valid != nil && !*s.Valid && s.Manifest != nil && s.Manifest.Validation.Valid
}

// asTaken is the plan as it would be had nothing been damaged since it was taken:
// what a target wants of it and cannot get is said, not passed over.
func asTaken(list []snapshot.Snapshot, plan []retention.Snapshot) []retention.Snapshot {
	plan = slices.Clone(plan)
	for i, s := range list {
		plan[i].Valid = plan[i].Valid || damagedSince(s)
	}
	return plan
}

// ship pushes what the vault should have, newest first. A vault that is behind
// what was written is told of, and gets its snapshots all the same.
func (a *App) ship(ctx context.Context, v *Vault, recipients *crypt.Recipients, doc *Synced, freed *bool) error {
	s, err := a.survey(ctx, v, doc)
	if err != nil {
		return err
	}
	if err := a.makeRoom(ctx, v, s, doc, freed); err != nil {
		return err
	}
	for _, stamp := range s.wanted {
		local := s.byStamp[stamp]
		pushed, err := a.push(ctx, v, local, recipients, offsite.PushOptions{Seq: v.state.NextSeq(s.stored),
			Damaged: s.healing.Damaged})
		var source *offsite.SourceError
		switch {
		case err == nil:
			doc.Pushed = append(doc.Pushed, pushed)
			doc.Warnings = append(append(doc.Warnings, pushed.Warnings...), pushed.Damage...)
			if err := a.replaced(ctx, v, s.healing.Replace[stamp], pushed.Push); err != nil {
				return err
			}
		case gaveUp(ctx, err):
			return err
		case isGone(local.Path):
			// Pruned meanwhile: forgotten. Nothing else is: whatever is missing inside
			// a snapshot that is there is damage.
		case errors.As(err, &source):
			doc.Skipped = append(doc.Skipped, string(stamp))
			doc.Warnings = append(doc.Warnings, fmt.Sprintf("%s: %v", stamp, err))
		default:
			return err
		}
	}
	if err := a.putDocuments(ctx, v, recipients, doc); err != nil {
		return err
	}
	return a.settle(ctx, v, s, doc)
}

// isGone reports whether a snapshot's directory is not there.
func isGone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// makeRoom prunes before a push that may not find room.
func (a *App) makeRoom(ctx context.Context, v *Vault, s shipment, doc *Synced, freed *bool) error {
	if len(s.wanted) == 0 {
		return nil
	}
	free, err := v.remote.Free(ctx)
	if gaveUp(ctx, err) {
		return err
	}
	if err != nil || free < 0 || free >= s.byStamp[s.wanted[0]].Bytes {
		return nil
	}
	*freed = true
	_, err = a.pruneVault(ctx, v, doc)
	if gaveUp(ctx, err) {
		return err
	}
	return nil // what else kept it from pruning is said by the prune that comes after
}

// replaced removes pushes that were damaged, now that a sound one of their stamp
// is there. Where nothing can be removed they stay, superseded.
func (a *App) replaced(ctx context.Context, v *Vault, pushes []offsite.PushID, by offsite.PushID) error {
	if v.target.AppendOnly {
		return nil
	}
	for _, push := range pushes {
		if push == by {
			continue
		}
		if err := v.RemovePush(ctx, push); err != nil && !errors.Is(err, offsite.ErrLocked) {
			return err
		}
	}
	return v.state.RecordRemoved(func(push offsite.PushID) bool { return slices.Contains(pushes, push) && push != by })
}

// settle looks once more: what was mended is no finding any more, and what was not
// is said.
func (a *App) settle(ctx context.Context, v *Vault, s shipment, doc *Synced) error {
	look, err := v.Survey(ctx, v.Signers)
	if err != nil {
		return err
	}
	seen := look.Findings(v.state, v.checks, v.target.Prune)
	for _, f := range v.checks.Settle(look, seen) {
		doc.Mended = append(doc.Mended, f.String())
	}
	v.checks.Add(seen, "sync", time.Now())
	if err := errors.Join(v.checks.Save(), v.state.RecordListing(look.Current)); err != nil {
		return err
	}
	o, err := v.pruneOptions(ctx)
	if err != nil {
		return err
	}
	if _, err := v.Retain(ctx, look, time.Now(), o); err != nil {
		return err
	}
	for _, f := range v.checks.Findings {
		doc.Warnings = append(doc.Warnings, "damaged: "+f.String())
	}
	if len(doc.Skipped) > 0 {
		return fmt.Errorf("%s not sent: %s", english.Plural(len(doc.Skipped), "snapshot", ""),
			strings.Join(doc.Warnings, "; "))
	}
	if len(s.news) > 0 {
		return damageFound(s, doc.Mended)
	}
	return s.stale
}

// damageFound is the error of a sync that has found damage which nobody knew of,
// also where it has mended it: something happened to the vault.
func damageFound(s shipment, mended []string) error {
	if s.stale != nil {
		return s.stale
	}
	var all []string
	gone := false
	for _, f := range s.news {
		all = append(all, f.String())
		gone = gone || f.Gone
	}
	err := &failure.Error{Op: "sync", Err: fmt.Errorf("the vault is damaged: %s", strings.Join(all, "; ")),
		Hint: "what could be mended was sent anew; look at the disk there, and see `atobackupd vault verify` for " +
			"what is left"}
	if len(mended) == 0 {
		err.Hint = "nothing here can mend it; see `atobackupd vault verify`, and `atobackupd vault forget STAMP` " +
			"for what is lost"
	}
	if gone {
		err.Kind = failure.Stale
	}
	return err
}

func (a *App) recipients() (*crypt.Recipients, error) {
	return crypt.LoadRecipients(a.Config.Encryption.Recipients, a.Config.Encryption.RecipientsFile)
}

// push ships one snapshot while it is held against pruning. o says its number
// and whether it is to be a new base; the rest is the configuration's.
func (a *App) push(ctx context.Context, v *Vault, s snapshot.Snapshot, recipients *crypt.Recipients,
	o offsite.PushOptions) (offsite.Pushed, error) {
	lock, err := a.store.LockShared(s.Stamp)
	if err != nil {
		return offsite.Pushed{}, &offsite.SourceError{Err: err}
	}
	defer lock.Unlock()
	files, err := s.Inventory(ctx)
	if err != nil {
		return offsite.Pushed{}, &offsite.SourceError{Err: err}
	}
	src := offsite.Source{Dir: s.Path, Files: files, Host: a.Options.Host,
		Info: offsite.Info{Stamp: s.Stamp, Kind: s.Kind, Full: s.Full, Pinned: s.Pinned, Suspect: s.Suspicions()}}
	o.Recipients, o.Signer, o.Level = recipients, v.signer, a.Config.Encryption.Compression
	o.StateDir = offsite.StateDir(a.Config.StateDir, v.Name)
	o.BaseDir = filepath.Join(a.Config.Backup.Dir, "base", v.Name)
	o.RebaseRatio = v.target.RebaseRatio
	o.Progress = a.progressOf(SyncJob(v.Name)).Prefix(v.Name)
	pushed, err := v.Push(ctx, src, o)
	if err != nil {
		a.confirmDamage(ctx, s.Stamp, err)
		return pushed, err
	}
	if err := v.state.RecordPush(pushed); err != nil {
		return pushed, err
	}
	v.checks.RecordPush(pushed)
	a.confirmRotten(ctx, o.BaseDir, pushed.Rotten)
	a.Options.Log.Info("pushed a snapshot", "target", v.Name, "stamp", s.Stamp, "bytes", pushed.Bytes, "packs",
		pushed.Packs)
	a.NoteHistoryError(a.history.AddPush(ctx, history.Push{Target: v.Name, Stamp: string(s.Stamp),
		Push: string(pushed.Push), Seq: pushed.Seq,
		Bytes: pushed.Bytes, Packs: pushed.Packs, Duration: time.Duration(pushed.DurationMS) * time.Millisecond,
		At: time.Now()}))
	return pushed, nil
}

// RebaseVault sends the newest snapshots anew, as a base of their own that
// refers to no older pack: the newest full one, and what is newer than that.
// Afterwards the recipients of today alone can open what they need.
func (a *App) RebaseVault(ctx context.Context, t config.Target) ([]offsite.Pushed, error) {
	recipients, err := a.recipients()
	if err != nil {
		return nil, err
	}
	lock, err := a.lockTarget(ctx, t.Name, "vault rebase")
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	v, err := a.openTarget(ctx, t, false)
	if err != nil {
		return nil, withTarget(t.Name, err)
	}
	defer v.Close()
	now := time.Now()
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return nil, err
	}
	var all []offsite.Pushed
	for i, s := range rebased(list, now) {
		stored, _, err := v.ListVerified(ctx, v.Signers)
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
		return nil, &failure.Error{Op: "vault rebase", Subject: t.Name, Kind: failure.NotFound,
			Err: errors.New("there is no valid snapshot"), Hint: "take one: atobackupd backup"}
	}
	return all, v.checks.Save()
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
