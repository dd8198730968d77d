package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// Plan is what a restore would do and what stands against it.
type Plan struct {
	Stamp    string      `json:"stamp"`
	Source   string      `json:"source"`
	Snapshot string      `json:"snapshot"` // the directory it comes from
	Items    []PlanItem  `json:"items"`
	Space    []PlanSpace `json:"space"`
	Warnings []string    `json:"warnings"`
	Refusals []string    `json:"refusals"` // why it would be refused as things are

	refusals  []*failure.Error
	src       *source
	artifacts []*artifact
}

// Close releases the handles that the plan holds.
func (p *Plan) Close() {
	closeAll(p.artifacts)
	if p.src != nil {
		p.src.close()
	}
}

// integrityOK reports whether the snapshot's database passed its check: together
// with the digests of the copies that is what the restored one is.
func (p *Plan) integrityOK() bool {
	return !slices.ContainsFunc(p.src.problems, aboutDB) &&
		slices.ContainsFunc(p.artifacts, func(a *artifact) bool { return a.name == snapshot.DB })
}

func aboutDB(problem string) bool { return strings.HasPrefix(problem, "db_") }

// PlanSpace is one file system on which room is needed.
type PlanSpace struct {
	Path string `json:"path"`
	Need int64  `json:"need"` // bytes, while old and new stand side by side
	Free int64  `json:"free"`

	device uint64
	anchor bool // the pre-restore snapshot goes there
}

// Err returns the first refusal, or nil. Its kind is Refused, or Invalid for a
// snapshot that does not validate.
func (p *Plan) Err() error {
	if len(p.refusals) == 0 {
		return nil
	}
	return p.refusals[0]
}

// add takes over what one of the checks found.
func (p *Plan) add(refusals []*failure.Error, warnings []string) {
	p.Warnings = append(p.Warnings, warnings...)
	for _, e := range refusals {
		p.refusals = append(p.refusals, e)
		p.Refusals = append(p.Refusals, e.Error())
	}
}

// NewPlan looks at everything that Run would do, reads the snapshot whole to
// validate it, and touches nothing. That the service was confirmed stopped is
// not asked for. The error is for what keeps it from planning at all. The caller
// closes the plan.
func NewPlan(ctx context.Context, r Request) (_ *Plan, err error) {
	plan := &Plan{Stamp: string(r.Stamp), Source: r.Source, Snapshot: r.dir(), Items: []PlanItem{},
		Space: []PlanSpace{}, Warnings: []string{}, Refusals: []string{}}
	defer func() {
		if err != nil {
			plan.Close()
		}
	}()
	if plan.src, err = openSource(r.dir(), r.Stamp, r.owners()); err != nil {
		return nil, &failure.Error{
			Op:      "restore",
			Subject: string(r.Stamp),
			Kind:    failure.NotFound,
			Err:     err,
			Hint:    "see `atobackupd list`",
		}
	}
	if r.To == "" && r.Service == nil {
		refusals, warnings, err := r.inUse(ctx)
		if err != nil {
			return nil, err
		}
		plan.add(refusals, warnings)
	}
	refusals, warnings, err := r.checkSource(ctx, plan.src)
	if err != nil {
		return nil, err
	}
	plan.add(refusals, warnings)
	if r.To != "" || failure.KindOf(plan.Err()) == failure.Invalid {
		return plan, nil // what is missing of it cannot be planned with
	}
	list, warnings, err := r.artifacts(plan.src)
	var refused *failure.Error
	if errors.As(err, &refused) && refused.Kind == failure.Refused {
		plan.add([]*failure.Error{refused}, nil)
		return plan, nil
	}
	if err != nil {
		return nil, err
	}
	plan.artifacts = list
	refusals = nil
	if len(list) == 0 {
		refusals = append(refusals, r.refuse(errors.New("there is nothing in it that could be restored here"),
			"see what it holds with `atobackupd list`"))
	}
	if !r.NoPreSnapshot {
		if err := r.Store.CheckWritable(); err != nil {
			refusals = append(refusals, r.refuse(failure.WithoutHint(err), "what is live now could not be saved: "+
				failure.HintOf(err)+", or give up the way back with --no-pre-snapshot"))
		}
	}
	plan.add(refusals, warnings)
	return plan, plan.measure(&r)
}

// spaceSlack is left for the journal, directories and rounding.
const spaceSlack = 16 << 20

// measure fills in the items, and refuses what cannot work for lack of space or
// rights.
func (p *Plan) measure(r *Request) error {
	var liveBytes int64
	for _, a := range p.artifacts {
		item, refusals, warnings, err := r.planItem(a, p.src)
		if err != nil {
			return err
		}
		p.Items = append(p.Items, item)
		p.add(refusals, warnings)
		liveBytes += item.OldBytes
		need := item.NewBytes
		if a.mounted && !a.whole() {
			need += max(item.OldBytes, item.NewBytes) // the copy aside, and the file that grows
		}
		if err := p.need(a.dir, need, false); err != nil {
			return err
		}
	}
	if !r.NoPreSnapshot && liveBytes > 0 {
		if err := p.need(r.Store.Dir(), liveBytes, true); err != nil {
			return err
		}
	}
	var refusals []*failure.Error
	for _, s := range p.Space {
		if s.Free >= s.Need+spaceSlack || r.Force {
			continue
		}
		hint := "free some space"
		if s.anchor {
			hint += ", or go without a way back with --no-pre-snapshot"
		}
		refusals = append(
			refusals,
			r.refuse(fmt.Errorf("%d MiB are free on the file system of %s, and %d MiB are needed",
				s.Free>>20, s.Path, (s.Need+spaceSlack)>>20), hint),
		)
	}
	p.add(refusals, nil)
	return nil
}

func (p *Plan) need(path string, bytes int64, anchor bool) error {
	path = fsx.Nearest(path)
	device, err := fsx.Device(path)
	if err != nil {
		return err
	}
	for i := range p.Space {
		if p.Space[i].device == device {
			p.Space[i].Need += bytes
			p.Space[i].anchor = p.Space[i].anchor || anchor
			return nil
		}
	}
	free, err := fsx.Free(path)
	p.Space = append(p.Space, PlanSpace{Path: path, Need: bytes, Free: free, device: device, anchor: anchor})
	return err
}
