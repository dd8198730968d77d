package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
)

// RepairRequest is what an operator asks for.
type RepairRequest struct {
	Stamp    snapshot.Stamp // "" for every snapshot that is no longer valid
	From     string         // a target whose vault has good copies; "" looks on this machine only
	Identity string         // the secret key file that opens it, with From
	Signer   string         // who must have signed it, with From, where this machine does not know
	Confirm  bool           // do it; otherwise only say what it would take
}

// Repaired is the document of `scrub --repair`.
type Repaired struct {
	Confirmed bool             `json:"confirmed"`
	Repairs   []SnapshotRepair `json:"repairs"`
}

// SnapshotRepair is what is damaged in one snapshot, what would heal it, and,
// once that was done, how it validates.
type SnapshotRepair struct {
	snapshot.RepairPlan
	Vault  string           `json:"vault"` // the target that was, or would be, asked for good copies
	Error  string           `json:"error"` // why it cannot be healed
	Result *snapshot.Result `json:"result"`
}

// Repair heals rotten snapshots file by file from copies with the right digest:
// from other snapshots of this machine, and from a vault. Without Confirm it
// changes nothing, fetches nothing, and says what it would take; as long as
// something is not healed it fails with kind Invalid.
func (a *App) Repair(ctx context.Context, now time.Time, r RepairRequest) (doc Repaired, err error) {
	doc = Repaired{Confirmed: r.Confirm, Repairs: []SnapshotRepair{}}
	if r.From != "" && r.Identity == "" && r.Confirm {
		return doc, &failure.Error{Op: "repair", Subject: r.From, Kind: failure.Usage,
			Err:  errors.New("--from needs --identity"),
			Hint: "this machine cannot read what it has shipped; name the secret key file"}
	}
	work := func(run *jobRun) error {
		lock, err := a.Lock(ctx, "repairing snapshots")
		if err != nil {
			return err
		}
		defer lock.Unlock()
		if err := a.CheckNoPendingRestore(); err != nil {
			return err
		}
		run.begun()
		return a.repairAll(ctx, now, r, &doc)
	}
	if !r.Confirm {
		return doc, work(&jobRun{begun: func() {}})
	}
	return doc, a.runJob(ctx, "scrub", health.LegScrub, history.Run{Kind: "repair"}, work)
}

func (a *App) repairAll(ctx context.Context, now time.Time, r RepairRequest, doc *Repaired) error {
	bad, err := a.toRepair(ctx, now, r.Stamp)
	if err != nil {
		return err
	}
	for _, s := range bad {
		repair, err := a.repairOne(ctx, s, r, now)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			repair.Error = err.Error()
		}
		doc.Repairs = append(doc.Repairs, repair)
	}
	left, err := a.damaged(ctx, now)
	if err != nil {
		return err
	}
	if r.Stamp != "" {
		gone, err := a.gone(ctx, now, r.Stamp)
		if err != nil {
			return err
		}
		left = append(left, gone...)
	}
	hint := "carry it out: " + r.command() + " --confirm"
	if r.Confirm || !slices.ContainsFunc(doc.Repairs, SnapshotRepair.promises) {
		hint = a.remedyOf(ctx, now, left)
	}
	return damagedError("repair", left, hint)
}

// command is the request as it is typed, without its confirmation.
func (r RepairRequest) command() string {
	words := []string{"atobackupd scrub --repair"}
	if r.Stamp != "" {
		words = append(words, string(r.Stamp))
	}
	for _, flag := range []struct{ name, value string }{
		{"--from", r.From}, {"--identity", r.Identity}, {"--signer", r.Signer},
	} {
		if flag.value != "" {
			words = append(words, flag.name, escape.ShellWord(flag.value))
		}
	}
	return strings.Join(words, " ")
}

// gone returns a snapshot that was published here and taken away; none where it is
// here, or never was.
func (a *App) gone(ctx context.Context, now time.Time, stamp snapshot.Stamp) ([]snapshot.Snapshot, error) {
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return nil, err
	}
	gone, err := a.vanished(list)
	if err != nil || !slices.Contains(gone, stamp) {
		return nil, err
	}
	return []snapshot.Snapshot{{Stamp: stamp, Path: a.store.Path(stamp), Errors: []string{"it is gone"}}}, nil
}

// promises reports whether carrying a repair out would heal something.
func (r SnapshotRepair) promises() bool {
	healable := func(f snapshot.RepairFile) bool { return f.Source != "" }
	return r.Error == "" && (r.Vault != "" || slices.ContainsFunc(r.Files, healable))
}

// toRepair returns the one snapshot that is meant, whatever is known of it, or all
// that are rotten.
func (a *App) toRepair(ctx context.Context, now time.Time, stamp snapshot.Stamp) ([]snapshot.Snapshot, error) {
	if stamp == "" {
		return a.damaged(ctx, now)
	}
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(s snapshot.Snapshot) bool { return s.Stamp == stamp })
	if i < 0 {
		gone, err := a.gone(ctx, now, stamp)
		if err == nil && len(gone) == 0 {
			_, err = a.store.Get(stamp)
		}
		return gone, err
	}
	return list[i : i+1], nil
}

func (a *App) repairOne(ctx context.Context, s snapshot.Snapshot, r RepairRequest,
	now time.Time) (repair SnapshotRepair, err error) {
	repair.RepairPlan = snapshot.RepairPlan{Stamp: s.Stamp, Files: []snapshot.RepairFile{}}
	donors, err := a.donors(ctx, s.Stamp, now)
	if err != nil {
		return repair, err
	}
	manifest := s.Manifest
	if manifest != nil {
		if repair.RepairPlan, err = a.store.PlanRepair(ctx, s.Stamp, manifest, donors); err != nil {
			return repair, err
		}
	}
	// What validates file by file and is invalid all the same has a manifest that
	// is wrong; that too is in the vault.
	enough := manifest != nil && len(repair.Files) > 0 && repair.Complete()
	if !enough && r.From != "" {
		repair.Vault = r.From
		if !r.Confirm {
			return repair, a.inVault(ctx, s.Stamp, r)
		}
		fetched, cleanUp, err := a.fetchDonor(ctx, s, r)
		if err != nil {
			return repair, err
		}
		defer cleanUp()
		donors = append(donors, fetched.donor)
		manifest = fetched.manifest
		manifest.Pinned = s.Pinned // it may have been pinned since it was shipped
		if !isGone(s.Path) {
			if repair.RepairPlan, err = a.store.PlanRepair(ctx, s.Stamp, manifest, donors); err != nil {
				return repair, err
			}
		}
	}
	switch {
	case manifest == nil:
		return repair, errors.New("it has no manifest that says what its files should be: only a vault has it")
	case !r.Confirm:
		return repair, nil
	case isGone(s.Path):
		repair.RepairPlan, err = a.store.Recreate(ctx, s.Stamp, manifest, donors)
	default:
		a.noteSharing(ctx, s.Stamp, manifest, repair.Damaged())
		err = a.store.Repair(ctx, repair.RepairPlan, manifest)
	}
	if err != nil {
		return repair, err
	}
	result, err := a.Validate(ctx, s.Stamp)
	repair.Result = &result
	if err == nil && result.Valid {
		a.Options.Log.Info("healed a snapshot", "stamp", s.Stamp, "files", len(repair.Files))
	}
	return repair, err
}

// donors are the other snapshots, newest first: the manifest of each says what
// it holds, and what is taken from it is read and checked.
func (a *App) donors(ctx context.Context, stamp snapshot.Stamp, now time.Time) (donors []snapshot.Donor, err error) {
	list, _, err := a.Snapshots(ctx, now)
	for _, s := range slices.Backward(list) {
		if s.Manifest != nil && s.Stamp != stamp {
			donors = append(donors, snapshot.Donor{Name: "snapshot " + string(s.Stamp), Dir: s.Path,
				Files: s.Manifest.Files})
		}
	}
	return donors, err
}

// inVault fails unless the vault holds the snapshot.
func (a *App) inVault(ctx context.Context, stamp snapshot.Stamp, r RepairRequest) error {
	t, err := a.Target(r.From)
	if err != nil {
		return err
	}
	v, err := a.OpenVaultTarget(ctx, t, signerList(r.Signer))
	if err != nil {
		return err
	}
	defer v.Close()
	_, _, err = v.Find(ctx, string(stamp), v.Signers)
	return err
}

// fetched is a snapshot from a vault, proven by its signature.
type fetched struct {
	donor    snapshot.Donor
	manifest *snapshot.Manifest
}

// fetchDonor fetches a whole snapshot from a vault into staging/.
func (a *App) fetchDonor(ctx context.Context, s snapshot.Snapshot,
	r RepairRequest) (f fetched, cleanUp func(), err error) {
	if err := fsx.RequireFree(a.store.Dir(), s.Bytes, a.Config.Backup.MinFree.Bytes()); err != nil {
		return f, nil, err
	}
	var request restore.Request
	cleanUp, err = a.fetchForRestore(ctx, RestoreRequest{Name: string(s.Stamp), From: r.From, Identity: r.Identity,
		Signer: r.Signer}, &request)
	if err != nil {
		return f, nil, err
	}
	f.manifest, err = snapshot.ReadManifest(request.Dir)
	if err == nil && f.manifest.Stamp != s.Stamp {
		err = fmt.Errorf("the vault's manifest is that of %s", f.manifest.Stamp)
	}
	if err != nil {
		cleanUp()
		return f, nil, err
	}
	f.donor = snapshot.Donor{Name: "vault " + r.From, Dir: request.Dir, Files: f.manifest.Files}
	return f, cleanUp, nil
}
