package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// PrunePlan is the document of `prune`.
type PrunePlan struct {
	DryRun   bool           `json:"dry_run"`
	Keep     []PruneVerdict `json:"keep"`
	Delete   []PruneVerdict `json:"delete"`
	Deleted  []string       `json:"deleted"`
	Held     bool           `json:"held"`
	Why      string         `json:"held_reason,omitempty"`
	Warnings []string       `json:"warnings"`
	Frees    int64          `json:"frees"` // bytes that carrying Delete out frees, at least

	// For the table that people read.
	Snapshots []snapshot.Snapshot `json:"-"`
	Decision  retention.Decision  `json:"-"`
	Location  *time.Location      `json:"-"`
	Policy    retention.Policy    `json:"-"`
}

// PruneVerdict says why one snapshot is kept or deleted.
type PruneVerdict struct {
	Stamp   string   `json:"stamp"`
	Reasons []string `json:"reasons"`
}

// Prune deletes what retention does not keep. A dry run shows the plan and
// changes nothing; confirm carries out a plan that the guard would hold.
func (a *App) Prune(ctx context.Context, now time.Time, dryRun, confirm bool) (doc PrunePlan, err error) {
	if dryRun {
		return a.planPrune(ctx, now, true)
	}
	err = a.runJob(ctx, "prune", health.LegPrune, history.Run{}, func(run *jobRun) error {
		lock, err := a.Lock(ctx, "pruning")
		if err != nil {
			return err
		}
		defer lock.Unlock()
		if err := a.CheckNoPendingRestore(); err != nil {
			return err
		}
		run.begun()
		quarantineErr := a.sweepQuarantine(now)
		if doc, err = a.planPrune(ctx, now, false); err != nil {
			return errors.Join(err, quarantineErr)
		}
		if doc.Held && !confirm {
			return errors.Join(&failure.Error{Op: "prune", Subject: a.Config.Backup.Dir,
				Err:  errors.New("held: " + doc.Why),
				Hint: "look at `atobackupd prune --dry-run`, then use --confirm"}, quarantineErr)
		}
		return errors.Join(a.carryOut(ctx, now, &doc), quarantineErr)
	})
	return doc, err
}

func (a *App) planPrune(ctx context.Context, now time.Time, dryRun bool) (PrunePlan, error) {
	doc := PrunePlan{DryRun: dryRun, Keep: []PruneVerdict{}, Delete: []PruneVerdict{}, Deleted: []string{},
		Warnings: []string{}, Location: a.location}
	list, warnings, err := a.Snapshots(ctx, now)
	if err != nil {
		return doc, err
	}
	if !dryRun {
		err = a.validateUnseen(ctx, list, now)
	} else {
		err = a.validateForDryRun(ctx, list)
	}
	if err != nil {
		return doc, err
	}
	doc.Snapshots = list
	doc.Policy = a.Policy(a.Config.Retention)
	doc.Decision = retention.Plan(a.planned(list), doc.Policy, now)
	doc.Warnings = append(append(doc.Warnings, warnings...), doc.Decision.Warnings...)
	doc.Held, doc.Why = doc.Decision.Held, doc.Decision.HeldReason
	for _, v := range doc.Decision.Keep() {
		doc.Keep = append(doc.Keep, PruneVerdict{v.Stamp, v.Reasons})
	}
	for _, s := range list {
		if s.Foreign { // retention does not know of it
			why := []string{"AtoCore's own, which it or root removes"}
			doc.Keep = append(doc.Keep, PruneVerdict{string(s.Stamp), why})
		}
	}
	slices.SortStableFunc(doc.Keep, func(a, b PruneVerdict) int { return strings.Compare(a.Stamp, b.Stamp) })
	for _, v := range doc.Decision.Delete() {
		doc.Delete = append(doc.Delete, PruneVerdict{v.Stamp, v.Reasons})
	}
	doc.Frees = snapshot.Freed(deletions(list, doc.Delete))
	return doc, nil
}

// deletions returns the snapshots that a plan deletes.
func deletions(list []snapshot.Snapshot, verdicts []PruneVerdict) (gone []snapshot.Snapshot) {
	for _, s := range list {
		if slices.ContainsFunc(verdicts, func(v PruneVerdict) bool { return v.Stamp == string(s.Stamp) }) {
			gone = append(gone, s)
		}
	}
	return gone
}

// validateForDryRun validates what was never validated, so that the plan that is
// shown is the one that would be carried out, and writes nothing into the
// snapshots.
func (a *App) validateForDryRun(ctx context.Context, list []snapshot.Snapshot) error {
	for i := range list {
		s := &list[i]
		if s.Valid != nil {
			continue
		}
		result, err := a.Validate(ctx, s.Stamp)
		if err != nil {
			return err
		}
		a.applyResult(ctx, s, result)
	}
	return nil
}

// carryOut deletes what the plan deletes. One that cannot be deleted is named in
// the error, and the others go all the same.
func (a *App) carryOut(ctx context.Context, now time.Time, doc *PrunePlan) error {
	a.Sweep()
	var failed []error
	for _, v := range doc.Delete {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failed, err)...)
		}
		err := a.deletePublished(ctx, snapshot.Stamp(v.Stamp), doc.Snapshots)
		if failure.KindOf(err) == failure.Locked {
			doc.Warnings = append(doc.Warnings, err.Error())
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		a.Options.Log.Info("deleted a snapshot", "stamp", v.Stamp, "why", strings.Join(v.Reasons, "; "))
		a.forgetChecks(ctx, snapshot.Stamp(v.Stamp))
		doc.Deleted = append(doc.Deleted, v.Stamp)
	}
	return errors.Join(failed...)
}

// deletePublished deletes a snapshot that nobody is to miss afterwards.
func (a *App) deletePublished(ctx context.Context, stamp snapshot.Stamp, list []snapshot.Snapshot) error {
	how := ""
	if slices.ContainsFunc(list, func(s snapshot.Snapshot) bool { return s.Stamp == stamp && isDamaged(s) }) {
		how = deletedByPrune
	}
	// First: a process that dies in between leaves a snapshot that is put on the list
	// again, and none that seems to have been taken away.
	if err := a.changePublished(ctx, func(p *published) { p.settle(how, stamp) }); err != nil {
		return err
	}
	return a.store.Delete(stamp)
}

// sweepQuarantine removes what has been in quarantine/ for as long as an invalid
// snapshot is kept, also when the rest of the prune is held, and what is beyond
// its bound.
func (a *App) sweepQuarantine(now time.Time) error {
	old, oldErr := a.store.SweepQuarantine(now, a.Policy(a.Config.Retention).Invalid)
	surplus, err := a.store.BoundQuarantine(snapshot.LiveBytes(a.sources()))
	for _, name := range append(old, surplus...) {
		a.Options.Log.Info("removed from quarantine", "name", name)
	}
	return errors.Join(oldErr, err)
}
