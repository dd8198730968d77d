package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
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

// PlanItem is one artifact that would be replaced.
type PlanItem struct {
	Artifact    string `json:"artifact"`
	Destination string `json:"destination"`
	Layout      string `json:"layout"` // "plain", "mounted file", "mounted directory" or "missing"
	OldBytes    int64  `json:"old_bytes"`
	OldFiles    int    `json:"old_files"`
	NewBytes    int64  `json:"new_bytes"`
	NewFiles    int    `json:"new_files"`
	UID         int    `json:"uid"` // what it will have
	GID         int    `json:"gid"`
	Mode        string `json:"mode"`
}

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

func (p *Plan) refuse(e *failure.Error) {
	p.refusals = append(p.refusals, e)
	p.Refusals = append(p.Refusals, e.Error())
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
		return nil, &failure.Error{Op: "restore", Subject: string(r.Stamp), Kind: failure.NotFound, Err: err, Hint: "see `atobackupd list`"}
	}
	if r.To == "" && r.Service == nil {
		if err := plan.inUse(ctx, &r); err != nil {
			return nil, err
		}
	}
	if err := plan.checkSource(ctx, &r); err != nil {
		return nil, err
	}
	if r.To != "" || failure.KindOf(plan.Err()) == failure.Invalid {
		return plan, nil // what is missing of it cannot be planned with
	}
	list, warnings, err := r.artifacts(plan.src)
	var refused *failure.Error
	if errors.As(err, &refused) && refused.Kind == failure.Refused {
		plan.refuse(refused)
		return plan, nil
	}
	if err != nil {
		return nil, err
	}
	plan.artifacts = list
	plan.Warnings = append(plan.Warnings, warnings...)
	if len(list) == 0 {
		plan.refuse(r.refuse(errors.New("there is nothing in it that could be restored here"), "see what it holds with `atobackupd list`"))
	}
	return plan, plan.measure(&r)
}

// inUse refuses while the store is being used.
func (p *Plan) inUse(ctx context.Context, r *Request) error {
	w := openFiles{}
	w.addLive(r.Live, !r.NoChroma)
	found, hidden, err := w.processes()
	if err != nil {
		return err
	}
	for _, h := range found {
		if r.Force {
			p.Warnings = append(p.Warnings, openIn(h).Error()+": it will not see the restored store until it is started again")
		} else {
			p.refuse(r.refuse(openIn(h), stopHint))
		}
	}
	if hidden > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d processes of other users could not be asked whether they have the files open: run it with sudo to be sure", hidden))
	}
	if listening(ctx, r.HealthURL) {
		if r.Force {
			p.Warnings = append(p.Warnings, "the service answers at "+r.HealthURL)
		} else {
			p.refuse(r.refuse(fmt.Errorf("the service answers at %s", r.HealthURL), stopHint))
		}
	}
	return nil
}

// checkSource refuses a snapshot that is not valid or comes from elsewhere.
func (p *Plan) checkSource(ctx context.Context, r *Request) error {
	r.progress("validate", 0)
	if err := p.src.validate(ctx, !r.NoChroma, r.RequiredTables, r.Progress); err != nil {
		return err
	}
	if !p.src.valid() {
		if r.AllowInvalid {
			p.Warnings = append(p.Warnings, p.src.problems...)
		} else {
			p.refuse(refusal(string(r.Stamp), failure.Invalid, fmt.Errorf("the snapshot is not valid: %s", clip(p.src.problems)),
				"restore another one, or this one all the same with --allow-invalid"))
		}
	}
	if other := p.src.otherDeployment(r.Host, r.Live); other != "" && r.To == "" {
		if r.AcceptOtherDeployment {
			p.Warnings = append(p.Warnings, "it comes from another deployment: "+other)
		} else {
			p.refuse(r.refuse(fmt.Errorf("it comes from another deployment: %s", other),
				"to set up this machine from it, add --accept-other-deployment"))
		}
	}
	return nil
}

// spaceSlack is left for the journal, directories and rounding.
const spaceSlack = 16 << 20

// measure fills in the items, and refuses what cannot work for lack of space or
// rights.
func (p *Plan) measure(r *Request) error {
	var liveBytes int64
	for _, a := range p.artifacts {
		item, err := p.item(r, a)
		if err != nil {
			return err
		}
		p.Items = append(p.Items, item)
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
	for _, s := range p.Space {
		if s.Free >= s.Need+spaceSlack || r.Force {
			continue
		}
		hint := "free some space"
		if s.anchor {
			hint += ", or go without a way back with --no-pre-snapshot"
		}
		p.refuse(r.refuse(fmt.Errorf("%d MiB are free on the file system of %s, and %d MiB are needed", s.Free>>20, s.Path,
			(s.Need+spaceSlack)>>20), hint))
	}
	return nil
}

// item describes one artifact, and refuses what cannot be exchanged.
func (p *Plan) item(r *Request, a *artifact) (item PlanItem, err error) {
	item = PlanItem{Artifact: a.name, Destination: a.live(), Layout: a.layout()}
	if work := workDir(a.dir, r.Stamp); exists(work) {
		p.refuse(r.refuse(fmt.Errorf("%s is in the way: an earlier restore left it", work),
			"no restore is under way; look whether it holds anything of worth, and remove it"))
	}
	entries, leftOut, err := a.entries(p.src)
	if err != nil {
		return item, err
	}
	p.Warnings = append(p.Warnings, leftOut...)
	item.NewBytes, item.NewFiles = totals(entries)
	if item.OldBytes, item.OldFiles, err = a.standing(); err != nil {
		return item, err
	}
	will, err := a.outcome(p.src)
	if err != nil {
		return item, err
	}
	item.UID, item.GID, item.Mode = will.UID, will.GID, fmt.Sprintf("%04o", will.Mode)
	if !r.Force && !mayGive(will.UID, will.GID) {
		p.refuse(r.refuse(fmt.Errorf("%s belongs to uid %d and gid %d, and this process may not give files away", a.live(), will.UID, will.GID),
			"run it with sudo"))
	}
	var refused *failure.Error
	if err := r.checkWritable(a); errors.As(err, &refused) {
		p.refuse(refused)
	} else if err != nil {
		return item, err
	}
	return item, nil
}

func (p *Plan) need(path string, bytes int64, anchor bool) error {
	path = nearest(path)
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

func (a *artifact) layout() string {
	switch {
	case !a.there:
		return "missing"
	case a.mounted && a.whole():
		return "mounted directory"
	case a.mounted:
		return "mounted file"
	}
	return "plain"
}

// standing adds up what would be replaced.
func (a *artifact) standing() (bytes int64, files int, err error) {
	if !a.there {
		return 0, 0, nil
	}
	if !a.whole() {
		info, err := a.at.Lstat(a.file)
		return info.Size, 1, err
	}
	err = walkStore(a.at, func(n tree.Node) error {
		if n.IsRegular() {
			bytes += n.Size
			files++
		}
		return nil
	})
	return bytes, files, err
}
