package offsite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Ages that prune goes by. The other machine's clock is what they are measured
// on: mtimes are its own.
const (
	packGrace     = 7 * retention.Day  // an unreferenced pack may belong to a push under way
	trashGrace    = 7 * retention.Day  // a pack in trash may still be wanted back
	incomingGrace = 2 * retention.Day  // an upload under way
	lateArrival   = 14 * retention.Day // a stamp older than that on arrival displaces nothing

	// supersededGrace is how long a push lives on beside a later one of its stamp
	// where the second machine prunes: a thief who has the signing key can push
	// the stamps again, and must not make the good copies vanish by it.
	supersededGrace = 14 * retention.Day
	reportGrace     = 90 * retention.Day
)

// PruneOptions says what a prune may do.
type PruneOptions struct {
	Policy  retention.Policy
	Signers crypt.Signers
	DryRun  bool
	Confirm bool // carry out a plan that would be held
	Now     bool // skip the waiting times

	// Adjust, where it is not nil, adds what only this machine knows of a
	// snapshot: that it was pinned or unpinned since it was sent, or is being
	// restored just now.
	Adjust func(*retention.Snapshot)

	// Known, where it is not nil, reports whether this machine made a push: then
	// it arrived in time, whatever a copy of the vault did to its times, and what
	// is damaged of it is this machine's to mend. TrustBefore says the same of
	// everything that lay there then, by the word of the vault's owner.
	Known       func(PushID) bool
	TrustBefore time.Time

	// Leaving, where it is not nil, is told which pushes go, before the first does.
	Leaving func([]PushID) error

	// SecondMachine is where the vault lies on an account that may only add: the
	// newest signed policy documents can pin and lengthen what Policy says, and
	// superseded pushes live on for a while.
	SecondMachine bool
}

// Pruned is what a prune did, or would do.
type Pruned struct {
	Decision   retention.Decision
	Deleted    []snapshot.Stamp // snapshots
	Superseded []SupersededPush
	Trashed    []string // packs moved to trash/
	Restored   []string // packs moved back
	Removed    []string // objects removed for good
	Locked     []string // what would go, and stays until its lock ends
	Warnings   []string
}

// SupersededPush is a push that a later one of its stamp has replaced.
type SupersededPush struct {
	Stamp snapshot.Stamp `json:"stamp"`
	Push  PushID         `json:"push"`
	By    PushID         `json:"by"`
	Until time.Time      `json:"until"` // when it goes
	Due   bool           `json:"due"`   // it goes now
}

// Prune thins the vault out by its policy. It works while another machine
// pushes: a pack is first moved aside, and removed only when nothing has named
// it for a week. Snapshots that arrived long after their stamp are left alone,
// reported, and count for nothing; so are those whose signature does not verify,
// until they are a week old and a sound push holds the same stamp or a newer one.
func (v *Vault) Prune(ctx context.Context, now time.Time, o PruneOptions) (result Pruned, err error) {
	survey, err := v.Survey(ctx, o.Signers)
	if err != nil {
		return result, err
	}
	result.Warnings = survey.Warnings
	if o.SecondMachine {
		policies, warnings, err := v.policies(ctx, o.Signers, now)
		if err != nil {
			return result, err
		}
		result.Warnings = append(result.Warnings, warnings...)
		o.lengthen(policies)
	}
	current := o.inTime(survey, &result)
	var plan []retention.Snapshot
	for _, s := range current {
		item := s.planned()
		if o.Adjust != nil {
			o.Adjust(&item)
		}
		plan = append(plan, item)
	}
	result.Decision = retention.Plan(plan, o.Policy, now)
	result.Warnings = append(result.Warnings, result.Decision.Warnings...)
	result.Superseded = o.superseded(survey, current, now)
	o.holdSuperseded(&result, len(current))
	if o.DryRun {
		return result, nil
	}
	if o.SecondMachine {
		v.protect(ctx, &result)
	}
	if result.Decision.Held && !o.Confirm {
		return result, &failure.Error{
			Op: "vault prune", Subject: v.Info.ID, Err: errors.New(result.Decision.HeldReason),
			Hint: "look at --dry-run, then use --confirm",
		}
	}
	if o.Leaving != nil {
		if err := o.Leaving(result.leaving(current)); err != nil {
			return result, err
		}
	}
	for _, verdict := range result.Decision.Delete() {
		stamp := snapshot.Stamp(verdict.Stamp)
		if err := v.removePush(ctx, current[stamp].Push); errors.Is(err, ErrLocked) {
			_ = result.passLocked(string(stamp), err)
		} else if err != nil {
			return result, err
		} else {
			result.Deleted = append(result.Deleted, stamp)
		}
	}
	for i, s := range result.Superseded {
		if !s.Due {
			continue
		}
		err := v.removePush(ctx, s.Push)
		result.Superseded[i].Due = !errors.Is(err, ErrLocked)
		if err := result.passLocked(string(s.Push), err); err != nil {
			return result, err
		}
	}
	return result, v.sweepAll(ctx, now, o, survey, &result)
}

// leaving returns the pushes that are going to be removed.
func (p *Pruned) leaving(current map[snapshot.Stamp]Stored) (pushes []PushID) {
	for _, verdict := range p.Decision.Delete() {
		pushes = append(pushes, current[snapshot.Stamp(verdict.Stamp)].Push)
	}
	for _, s := range p.Superseded {
		if s.Due {
			pushes = append(pushes, s.Push)
		}
	}
	return pushes
}

// Sweep removes what nobody needs any more without deciding anything about
// snapshots: it frees room also where a push has failed.
func (v *Vault) Sweep(ctx context.Context, now time.Time, o PruneOptions) (result Pruned, err error) {
	survey, err := v.Survey(ctx, o.Signers)
	if err != nil {
		return result, err
	}
	return result, v.sweepAll(ctx, now, o, survey, &result)
}

// protect makes read-only what an account must not write over, where the vault is
// this machine's.
func (v *Vault) protect(ctx context.Context, result *Pruned) {
	local, ok := v.remote.(DirRemote)
	if !ok {
		return
	}
	if err := protect(ctx, local); err != nil {
		result.Warnings = append(result.Warnings, fmt.Sprintf("the account could change its own files: %v", err))
	}
}

func (v *Vault) sweepAll(
	ctx context.Context, now time.Time, o PruneOptions, survey *Survey, result *Pruned,
) (err error) {
	if now, err = v.remoteNow(ctx, now); err != nil {
		return err
	}
	if err := v.removeUnproven(ctx, now, o, survey, result); err != nil {
		return err
	}
	if err := v.ThinDocuments(ctx, o.Signers, now); err != nil {
		return err
	}
	return v.sweep(ctx, now, o, result)
}

// lengthen applies what policy documents ask for: never less than Policy.
func (o *PruneOptions) lengthen(policies []PolicyDocument) {
	pinned, suspect := make(map[string]bool), make(map[string]bool)
	for _, p := range policies {
		for _, stamp := range p.Pinned {
			pinned[string(stamp)] = true
		}
		for _, stamp := range p.Suspect {
			suspect[string(stamp)] = true
		}
		o.Policy = o.Policy.Lengthen(p.Retention)
	}
	adjust := o.Adjust
	o.Adjust = func(s *retention.Snapshot) {
		s.Pinned = s.Pinned || pinned[s.Stamp]
		s.Suspect = s.Suspect || suspect[s.Stamp]
		if adjust != nil {
			adjust(s)
		}
	}
}

// inTime returns the current push of each stamp that may displace others. The
// rest is reported.
func (o *PruneOptions) inTime(survey *Survey, result *Pruned) map[snapshot.Stamp]Stored {
	current := make(map[snapshot.Stamp]Stored)
	for _, s := range survey.Current {
		late := s.Uploaded.Sub(s.Stamp.Time())
		known := o.Known != nil && o.Known(s.Push)
		if late > lateArrival && !known && !s.Uploaded.Before(o.TrustBefore) {
			result.Warnings = append(result.Warnings, fmt.Sprintf(
				"%s: not counted: it arrived %s after its stamp; for a copied vault say "+
					"`atobackupd vault trust-times`, or remove it with `atobackupd vault forget`",
				s.Push,
				english.Plural(int(late.Hours()/24), "day", ""),
			))
			continue
		}
		current[s.Stamp] = s
	}
	return current
}

// superseded says of each push that a later one replaces when it goes.
func (o *PruneOptions) superseded(
	survey *Survey, current map[snapshot.Stamp]Stored, now time.Time,
) (list []SupersededPush) {
	for _, s := range survey.Superseded {
		by, ok := current[s.Stamp]
		if !ok { // a late one displaces nothing
			continue
		}
		gone := SupersededPush{Stamp: s.Stamp, Push: s.Push, By: by.Push, Until: by.Uploaded}
		if o.SecondMachine && !o.Now {
			gone.Until = by.Uploaded.Add(supersededGrace)
		}
		gone.Due = !o.SecondMachine || o.Now || gone.Until.Before(now)
		list = append(list, gone)
	}
	return list
}

// holdSuperseded counts superseded pushes that go as deletions, under the same
// guard as the plan's.
func (o *PruneOptions) holdSuperseded(result *Pruned, current int) {
	due := 0
	for _, s := range result.Superseded {
		if s.Due {
			due++
		}
	}
	deletions := len(result.Decision.Delete()) + due
	if !o.SecondMachine || due == 0 || deletions <= 3 || result.Decision.Held {
		return
	}
	// Of the stamps, not of the pushes: replacing each of them is all that there is.
	if !(float64(deletions) <= o.Policy.MaxDeleteFraction*float64(current)) {
		result.Decision.Held = true
		result.Decision.HeldReason = fmt.Sprintf(
			"it would remove %d pushes of %d snapshots, %d of them replaced by later ones of the same stamps",
			deletions, current, due,
		)
	}
}

// removeUnproven removes pushes that prove to be nobody's, once they are old and
// a sound push holds their stamp or a newer one.
func (v *Vault) removeUnproven(
	ctx context.Context, now time.Time, o PruneOptions, survey *Survey, result *Pruned,
) error {
	for _, u := range survey.Unproven {
		stamp, _ := u.Push.Stamp()
		sound := slices.ContainsFunc(survey.Current, func(s Stored) bool { return s.Stamp >= stamp })
		mine := o.Known != nil && o.Known(u.Push)
		if mine || !sound || now.Sub(u.Uploaded) <= o.grace(packGrace) {
			continue
		}
		if err := v.removePush(ctx, u.Push); errors.Is(err, ErrLocked) {
			continue
		} else if err != nil {
			return err
		}
		result.Removed = append(result.Removed, u.Push.object(sigSuffix))
	}
	return nil
}

// grace is a waiting time, or less than nothing where they are skipped.
func (o *PruneOptions) grace(d time.Duration) time.Duration {
	if o.Now {
		return -retention.Day
	}
	return d
}

// remoteNow turns now into the other machine's time, by the mtime of an object
// that is made for it. Ages are differences of mtimes: measured against our own
// clock, a pack of an upload under way would look a year old to a machine whose
// clock is a year ahead, and be removed.
func (v *Vault) remoteNow(ctx context.Context, now time.Time) (their time.Time, err error) {
	before := time.Now()
	if c, ok := v.remote.(Clock); ok {
		return now.Add(c.Time().Sub(before)), nil
	}
	suffix, err := randomHex(8)
	if err != nil {
		return now, err
	}
	name := trashDir + "/clock-" + suffix
	if _, err := v.remote.Put(ctx, name, bytes.NewReader(nil)); err != nil {
		return now, err
	}
	probe, err := v.remote.Stat(ctx, name)
	if err = errors.Join(err, v.remote.Remove(ctx, name)); err != nil {
		return now, err
	}
	return now.Add(probe.MTime.Sub(before)), nil
}

// removePush takes a snapshot out of the vault: its signature first, after
// which it does not exist, and what names its packs last.
func (v *Vault) removePush(ctx context.Context, push PushID) error {
	for _, suffix := range []string{sigSuffix, manifestSuffix, infoSuffix, sumsSuffix} {
		if err := v.remote.Remove(ctx, push.object(suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweep moves packs that nothing names to trash/, looks again, and removes what
// has been unwanted for long enough.
func (v *Vault) sweep(ctx context.Context, now time.Time, o PruneOptions, result *Pruned) error {
	if err := v.removeUnsigned(ctx, now, result); err != nil {
		return err
	}
	named, err := v.namedPacks(ctx)
	if err != nil {
		return err
	}
	if err := v.trash(ctx, now, o, named, result); err != nil {
		return err
	}
	// A push that began before the packs were moved may have named one since.
	if named, err = v.namedPacks(ctx); err != nil {
		return err
	}
	if err := v.emptyTrash(ctx, now, o, named, result); err != nil {
		return err
	}
	old := now.Add(-incomingGrace)
	isClock := func(name string) bool { return strings.HasPrefix(name, "clock-") }
	if err := v.removeOld(ctx, trashDir, old, isClock, result); err != nil {
		return err
	}
	if err := v.removeOld(ctx, reportsDir, now.Add(-reportGrace), isReport, result); err != nil {
		return err
	}
	return v.removeOld(ctx, incomingDir, old, func(string) bool { return true }, result)
}

// namedPacks returns which of the packs that are there some SHA256SUMS names,
// signed or not. What is damaged or not one at all stops nothing: it keeps the
// packs that its readable lines name, and those that its own push made.
func (v *Vault) namedPacks(ctx context.Context) (map[string]bool, error) {
	packs, err := v.allPacks(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := v.list(ctx, snapshotsDir)
	if err != nil {
		return nil, err
	}
	named := make(map[string]bool)
	own := make(map[PushID]bool)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name, sumsSuffix)
		push := PushID(name)
		if _, isPush := push.Stamp(); !ok || !isPush {
			continue
		}
		own[push] = true
		data, err := readAll(ctx, v.remote, snapshotsDir+"/"+e.Name, maxSums)
		if isTransportError(err) || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		if err != nil {
			continue // removed since it was listed, or beyond all measure
		}
		namedIn(data, func(id string) {
			if _, there := packs[id]; there {
				named[id] = true
			}
		})
	}
	for id := range packs {
		if own[packPush(id)] {
			named[id] = true
		}
	}
	return named, nil
}

// packPush returns the push that made a pack.
func packPush(id string) PushID {
	if i := strings.LastIndexByte(id, '-'); i > 0 {
		return PushID(id[:i])
	}
	return ""
}

// trashMarker names the marker that says when a pack was moved to trash/: a rename
// keeps the pack's own mtime.
func trashMarker(id string) string { return trashDir + "/" + id + ".since" }

func trashName(id string) string { return trashDir + "/" + id + packSuffix }

// trash moves the packs that nothing names aside. Those of one push are as old
// as the youngest of them: a first push may take longer than the waiting time.
func (v *Vault) trash(ctx context.Context, now time.Time, o PruneOptions, named map[string]bool, result *Pruned) error {
	entries, err := v.list(ctx, packsDir)
	if err != nil {
		return err
	}
	youngest := make(map[PushID]time.Time)
	for _, e := range entries {
		if id, ok := packID(packsDir + "/" + e.Name); ok && e.MTime.After(youngest[packPush(id)]) {
			youngest[packPush(id)] = e.MTime
		}
	}
	for _, e := range entries {
		id, ok := packID(packsDir + "/" + e.Name)
		if !ok || !packPattern.MatchString(id) || named[id] || now.Sub(youngest[packPush(id)]) <= o.grace(packGrace) {
			continue
		}
		if r, ok := v.remote.(Retainer); ok {
			if err := r.Removable(ctx, packName(id)); errors.Is(err, ErrLocked) {
				_ = result.passLocked(packName(id), err)
				continue
			}
		}
		// A marker that an interrupted prune left would make the pack look old.
		if err := v.remote.Remove(ctx, trashMarker(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := v.remote.Put(ctx, trashMarker(id), bytes.NewReader(nil)); err != nil {
			return err
		}
		if err := v.remote.Move(ctx, packName(id), trashName(id)); errors.Is(err, fs.ErrNotExist) {
			continue // another prune was faster
		} else if err != nil {
			return err
		}
		result.Trashed = append(result.Trashed, id)
	}
	return nil
}

// emptyTrash removes what has lain in trash/ for the waiting time, and moves back
// what is named again. A marker whose pack is gone goes too, once no prune can be
// about to move the pack.
func (v *Vault) emptyTrash(
	ctx context.Context, now time.Time, o PruneOptions, named map[string]bool, result *Pruned,
) error {
	entries, err := v.list(ctx, trashDir)
	if err != nil {
		return err
	}
	marked := make(map[string]time.Time)
	there := make(map[string]bool)
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name, ".since"); ok && !e.Dir {
			marked[id] = e.MTime
		}
		if id, ok := packID(packsDir + "/" + e.Name); ok {
			there[id] = true
		}
	}
	for id, since := range marked {
		if there[id] || now.Sub(since) <= incomingGrace {
			continue
		}
		if err := v.remote.Remove(ctx, trashMarker(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, e := range entries {
		id, ok := packID(packsDir + "/" + e.Name)
		if !ok || !packPattern.MatchString(id) {
			continue
		}
		moved, known := marked[id]
		switch {
		case named[id]:
			if err := v.remote.Move(ctx, trashName(id), packName(id)); err != nil && !errors.Is(err, fs.ErrExist) &&
				!errors.Is(err, fs.ErrNotExist) {
				return err
			}
			result.Restored = append(result.Restored, id)
		case !known: // nobody knows since when: count from now
			if _, err := v.remote.Put(ctx, trashMarker(id), bytes.NewReader(nil)); err != nil {
				return err
			}
			continue
		case now.Sub(moved) <= o.grace(trashGrace):
			continue
		default:
			if err := v.remote.Remove(ctx, trashName(id)); errors.Is(err, fs.ErrNotExist) {
				break // a push has just wanted it back
			} else if err != nil {
				return err
			}
			result.Removed = append(result.Removed, trashName(id))
		}
		if err := v.remote.Remove(ctx, trashMarker(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeUnsigned removes what interrupted pushes left in snapshots/, once no
// push can still be under way with it.
func (v *Vault) removeUnsigned(ctx context.Context, now time.Time, result *Pruned) error {
	entries, err := v.remote.List(ctx, snapshotsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	signed := make(map[string]bool)
	for _, e := range entries {
		if push, ok := strings.CutSuffix(e.Name, sigSuffix); ok {
			signed[push] = true
		}
	}
	return v.removeOld(ctx, snapshotsDir, now.Add(-packGrace), func(name string) bool {
		push, _, _ := strings.Cut(name, ".")
		_, isPush := PushID(push).Stamp()
		return isPush && !signed[push]
	}, result)
}

// removeOld removes the objects of a directory that are older than before and
// that match.
func (v *Vault) removeOld(
	ctx context.Context, dir string, before time.Time, match func(name string) bool, result *Pruned,
) error {
	entries, err := v.remote.List(ctx, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Dir || !e.MTime.Before(before) || !match(e.Name) {
			continue
		}
		err := v.remote.Remove(ctx, dir+"/"+e.Name)
		if errors.Is(err, ErrLocked) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		result.Removed = append(result.Removed, dir+"/"+e.Name)
	}
	return nil
}
