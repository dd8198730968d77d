package offsite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Retain lengthens, on a remote whose service locks objects, the locks of all that
// the snapshots need which retention keeps, and of what a vault has beside them.
// It returns how many names it asked for.
func (v *Vault) Retain(ctx context.Context, s *Survey, now time.Time, o PruneOptions) (int, error) {
	r, ok := v.remote.(Retainer)
	if !ok {
		return 0, nil
	}
	names := append(s.wantedNames(now, o), vaultFile, readmeFile, recoverFile, RecoverScriptName())
	for _, k := range []document{policyDocument, hostDocument} {
		entries, err := v.list(ctx, k.dir)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			names = append(names, k.dir+"/"+e.Name)
		}
	}
	return len(names), r.Retain(ctx, names)
}

// wantedNames returns the objects that the kept snapshots need.
func (s *Survey) wantedNames(now time.Time, o PruneOptions) (names []string) {
	var plan []retention.Snapshot
	for _, p := range s.Current {
		item := p.planned()
		if o.Adjust != nil {
			o.Adjust(&item)
		}
		plan = append(plan, item)
	}
	unwanted := make(map[snapshot.Stamp]bool)
	if decision := retention.Plan(plan, o.Policy, now); !decision.Held {
		for _, verdict := range decision.Delete() {
			unwanted[snapshot.Stamp(verdict.Stamp)] = true
		}
	}
	for _, p := range s.Current {
		if unwanted[p.Stamp] {
			continue
		}
		names = append(names, p.Push.object(sumsSuffix), p.Push.object(sigSuffix))
		for name := range s.needs[p.Push] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// tampering returns what the remote has met so far that somebody else did to
// objects which are still there, as findings: their bytes are sound, and whoever
// did it has this machine's key.
func (s *Survey) tampering(v *Vault) (findings []Finding) {
	r, ok := v.remote.(Retainer)
	if !ok {
		return nil
	}
	needed := s.neededBy(s.Current)
	for _, t := range r.Tampering() {
		findings = append(
			findings,
			Finding{Object: t.Name, What: t.What, Stamps: stamps(needed[t.Name]), Covered: true, Listed: true},
		)
	}
	return findings
}

// Uncover takes away what somebody has put over objects that are still there, so
// that tools which know no versions see them again.
func (v *Vault) Uncover(ctx context.Context, findings []Finding) error {
	r, ok := v.remote.(Retainer)
	if !ok {
		return nil
	}
	var errs []error
	for _, f := range findings {
		if f.Covered {
			errs = append(errs, r.Uncover(ctx, f.Object))
		}
	}
	return errors.Join(errs...)
}

// passLocked notes an object that stays until its lock ends, which is no failure of
// a prune: the next one looks again.
func (p *Pruned) passLocked(name string, err error) error {
	if !errors.Is(err, ErrLocked) {
		return err
	}
	p.Locked = append(p.Locked, fmt.Sprintf("%s: %v", name, err))
	return nil
}
