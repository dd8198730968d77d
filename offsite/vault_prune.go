package offsite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Ages that prune goes by. The other machine's clock is what they are measured
// on: mtimes are its own.
const (
	packGrace     = 7 * 24 * time.Hour  // an unreferenced pack may belong to a push under way
	trashGrace    = 7 * 24 * time.Hour  // a pack in trash may still be wanted back
	incomingGrace = 2 * 24 * time.Hour  // an upload under way
	lateArrival   = 14 * 24 * time.Hour // a stamp older than that on arrival displaces nothing
)

// PruneOptions says what a prune may do.
type PruneOptions struct {
	Policy  retention.Policy
	Signer  string
	DryRun  bool
	Confirm bool // carry out a plan that would be held

	// Adjust, where it is not nil, adds what only this machine knows of a
	// snapshot: that it was pinned or unpinned since it was sent, or is being
	// restored just now.
	Adjust func(*retention.Snapshot)
}

// Pruned tells what a prune did, or would do.
type Pruned struct {
	Decision retention.Decision
	Deleted  []snapshot.Stamp // snapshots
	Trashed  []string         // packs moved to trash/
	Restored []string         // packs moved back
	Removed  []string         // objects removed for good
	Warnings []string
}

// Prune thins the vault out by its policy. It works while another machine
// pushes: a pack is first moved aside, and removed only when nothing has named
// it for a week. Snapshots whose signature does not verify, or that arrived
// long after their stamp, are left alone, reported, and count for nothing.
func (v *Vault) Prune(ctx context.Context, now time.Time, o PruneOptions) (result Pruned, err error) {
	all, warnings, err := v.pushes(ctx)
	if err != nil {
		return result, err
	}
	result.Warnings = warnings
	current, superseded, err := v.trusted(ctx, all, o, &result)
	if err != nil {
		return result, err
	}
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
	if o.DryRun {
		return result, nil
	}
	if result.Decision.Held && !o.Confirm {
		return result, &failure.Error{Op: "vault prune", Subject: v.Info.ID, Err: errors.New(result.Decision.HeldReason), Hint: "look at --dry-run, then use --confirm"}
	}
	for _, verdict := range result.Decision.Delete() {
		stamp := snapshot.Stamp(verdict.Stamp)
		if err := v.removePush(ctx, current[stamp].Push); err != nil {
			return result, err
		}
		result.Deleted = append(result.Deleted, stamp)
	}
	for _, push := range superseded {
		if err := v.removePush(ctx, push); err != nil {
			return result, err
		}
	}
	if now, err = v.remoteNow(ctx, now); err != nil {
		return result, err
	}
	err = v.sweep(ctx, now, &result)
	return result, err
}

// trusted proves every push: the newest of each stamp, and those that it
// supersedes. The rest is reported.
func (v *Vault) trusted(ctx context.Context, all []Stored, o PruneOptions, result *Pruned) (current map[snapshot.Stamp]Stored, superseded []PushID, err error) {
	proven, warnings, err := v.prove(ctx, all, o.Signer)
	if err != nil {
		return nil, nil, err
	}
	result.Warnings = append(result.Warnings, warnings...)
	current = make(map[snapshot.Stamp]Stored)
	for _, s := range proven {
		if late := s.Uploaded.Sub(s.Stamp.Time()); late > lateArrival {
			result.Warnings = append(result.Warnings, fmt.Sprintf("%s: not counted: it arrived %d days after its stamp", s.Push, int(late.Hours()/24)))
			continue
		}
		old, ok := current[s.Stamp]
		switch {
		case !ok:
			current[s.Stamp] = s
		case old.Seq < s.Seq:
			superseded = append(superseded, old.Push)
			current[s.Stamp] = s
		default:
			superseded = append(superseded, s.Push)
		}
	}
	return current, superseded, nil
}

// remoteNow turns now into the other machine's time, by the mtime of an object
// that is made for it. Ages are differences of mtimes: measured against our own
// clock, a pack of an upload under way would look a year old to a machine whose
// clock is a year ahead, and be removed.
func (v *Vault) remoteNow(ctx context.Context, now time.Time) (their time.Time, err error) {
	suffix, err := randomHex(8)
	if err != nil {
		return now, err
	}
	name := trashDir + "/clock-" + suffix
	before := time.Now()
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
func (v *Vault) sweep(ctx context.Context, now time.Time, result *Pruned) error {
	if err := v.removeUnsigned(ctx, now, result); err != nil {
		return err
	}
	named, err := v.namedPacks(ctx)
	if err != nil {
		return err
	}
	if err := v.trash(ctx, now, named, result); err != nil {
		return err
	}
	// A push that began before the packs were moved may have named one since.
	if named, err = v.namedPacks(ctx); err != nil {
		return err
	}
	if err := v.emptyTrash(ctx, now, named, result); err != nil {
		return err
	}
	if err := v.removeOld(ctx, trashDir, now.Add(-incomingGrace), func(name string) bool { return strings.HasPrefix(name, "clock-") }, result); err != nil {
		return err
	}
	return v.removeOld(ctx, incomingDir, now.Add(-incomingGrace), func(string) bool { return true }, result)
}

// namedPacks reads every SHA256SUMS, signed or not. One that cannot be read
// ends the sweep: it might name anything.
func (v *Vault) namedPacks(ctx context.Context) (map[string]bool, error) {
	entries, err := v.remote.List(ctx, snapshotsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	named := make(map[string]bool)
	for _, e := range entries {
		push, ok := strings.CutSuffix(e.Name, sumsSuffix)
		if _, isPush := PushID(push).Stamp(); !ok || !isPush {
			continue
		}
		data, err := readAll(ctx, v.remote, snapshotsDir+"/"+e.Name, maxSums)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		sums, err := parseSums(PushID(push), data)
		if err != nil {
			return nil, &failure.Error{Op: "vault prune", Subject: snapshotsDir + "/" + e.Name, Kind: failure.Invalid, Err: err, Hint: "no pack is removed while it cannot be read; remove it by hand if it is not yours"}
		}
		for _, s := range sums {
			if id, isPack := packID(s.Name); isPack {
				named[id] = true
			}
		}
	}
	return named, nil
}

// trashMarker names the marker that says when a pack was moved to trash/: a rename
// keeps the pack's own mtime.
func trashMarker(id string) string { return trashDir + "/" + id + ".since" }

func trashName(id string) string { return trashDir + "/" + id + packSuffix }

func (v *Vault) trash(ctx context.Context, now time.Time, named map[string]bool, result *Pruned) error {
	entries, err := v.remote.List(ctx, packsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		id, ok := packID(packsDir + "/" + e.Name)
		if !ok || !packPattern.MatchString(id) || named[id] || now.Sub(e.MTime) <= packGrace {
			continue
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

func (v *Vault) emptyTrash(ctx context.Context, now time.Time, named map[string]bool, result *Pruned) error {
	entries, err := v.remote.List(ctx, trashDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	marked := make(map[string]time.Time)
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name, ".since"); ok {
			marked[id] = e.MTime
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
			if err := v.remote.Move(ctx, trashName(id), packName(id)); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			result.Restored = append(result.Restored, id)
		case !known: // nobody knows since when: count from now
			if _, err := v.remote.Put(ctx, trashMarker(id), bytes.NewReader(nil)); err != nil {
				return err
			}
			continue
		case now.Sub(moved) <= trashGrace:
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
func (v *Vault) removeOld(ctx context.Context, dir string, before time.Time, match func(name string) bool, result *Pruned) error {
	entries, err := v.remote.List(ctx, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Dir || !e.MTime.Before(before) || !match(e.Name) {
			continue
		}
		if err := v.remote.Remove(ctx, dir+"/"+e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		result.Removed = append(result.Removed, dir+"/"+e.Name)
	}
	return nil
}
