package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
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

	refusals []*failure.Error
	src      *source
	parts    []part
}

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
}

// Err gives the first refusal, or nil. Its kind is Refused, or Invalid for a
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
// not asked for. The error is for what keeps it from planning at all.
func NewPlan(ctx context.Context, r Request) (*Plan, error) {
	src := readSource(r.dir(), r.Stamp)
	plan := &Plan{Stamp: string(r.Stamp), Source: r.Source, Snapshot: src.dir, Items: []PlanItem{},
		Space: []PlanSpace{}, Warnings: []string{}, Refusals: []string{}, src: src}
	if info, err := os.Stat(src.dir); err != nil || !info.IsDir() {
		return nil, &failure.Error{Op: "restore", Subject: string(r.Stamp), Kind: failure.NotFound,
			Err: fmt.Errorf("there is no directory %s", src.dir), Hint: "see `atobackupd list`"}
	}
	if r.To == "" && r.Service == nil {
		if err := plan.inUse(ctx, &r); err != nil {
			return nil, err
		}
	}
	if err := plan.judge(ctx, &r); err != nil {
		return nil, err
	}
	if r.To != "" {
		return plan, nil
	}
	parts, warnings, err := r.parts(src)
	var refused *failure.Error
	if errors.As(err, &refused) && refused.Kind == failure.Refused {
		plan.refuse(refused)
		return plan, nil
	}
	if err != nil {
		return nil, err
	}
	plan.parts = parts
	plan.Warnings = append(plan.Warnings, warnings...)
	if len(parts) == 0 {
		plan.refuse(r.refuse(errors.New("there is nothing in it that could be restored here"), "see what it holds with `atobackupd list`"))
	}
	return plan, plan.measure(&r)
}

// inUse refuses while the store is being used.
func (p *Plan) inUse(ctx context.Context, r *Request) error {
	w := watched{}
	w.addLive(r.Live, !r.NoChroma)
	found, hidden, err := w.holders()
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

// judge refuses a snapshot that is not valid or comes from elsewhere.
func (p *Plan) judge(ctx context.Context, r *Request) error {
	r.progress("validate", 0)
	if err := p.src.validate(ctx, r.RequiredTables, r.Progress); err != nil {
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
	for _, part := range p.parts {
		if work := workDir(part.dir, r.Stamp); exists(work) {
			p.refuse(r.refuse(fmt.Errorf("%s is in the way: an earlier restore left it", work),
				"no restore is under way; look whether it holds anything of worth, and remove it"))
		}
		entries, err := part.entries(p.src)
		if err != nil {
			return err
		}
		item := PlanItem{Artifact: part.artifact, Destination: part.live(), Layout: part.layout()}
		item.NewBytes, item.NewFiles = totals(entries)
		if item.OldBytes, item.OldFiles, err = part.standing(); err != nil {
			return err
		}
		a, err := part.outcome(p.src)
		if err != nil {
			return err
		}
		item.UID, item.GID, item.Mode = a.uid, a.gid, fmt.Sprintf("%04o", a.mode)
		p.Items = append(p.Items, item)
		liveBytes += item.OldBytes
		need := item.NewBytes
		if part.mounted && !part.whole() {
			need += max(item.OldBytes, item.NewBytes) // the copy aside, and the file that grows
		}
		if err := p.need(part.dir, need); err != nil {
			return err
		}
		if !r.Force && !mayGive(a.uid, a.gid) {
			p.refuse(r.refuse(fmt.Errorf("%s belongs to uid %d and gid %d, and this process may not give files away", part.live(), a.uid, a.gid), "run it with sudo"))
		}
	}
	if !r.NoPreSnapshot && len(p.parts) > 0 {
		if err := p.need(r.Store.Dir(), liveBytes); err != nil {
			return err
		}
	}
	for _, s := range p.Space {
		if s.Free < s.Need+spaceSlack && !r.Force {
			p.refuse(r.refuse(fmt.Errorf("%d MiB are free on the file system of %s, and %d MiB are needed", s.Free>>20, s.Path, (s.Need+spaceSlack)>>20), "free some space"))
		}
	}
	return nil
}

func (p *Plan) need(path string, bytes int64) error {
	path = nearest(path)
	device, err := fsx.Device(path)
	if err != nil {
		return err
	}
	for i := range p.Space {
		if p.Space[i].device == device {
			p.Space[i].Need += bytes
			return nil
		}
	}
	free, err := fsx.Free(path)
	p.Space = append(p.Space, PlanSpace{Path: path, Need: bytes, Free: free, device: device})
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// nearest gives path or its nearest ancestor that exists.
func nearest(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

func (p part) layout() string {
	switch {
	case !p.there:
		return "missing"
	case p.mounted && p.whole():
		return "mounted directory"
	case p.mounted:
		return "mounted file"
	}
	return "plain"
}

// standing adds up what would be replaced.
func (p part) standing() (bytes int64, files int, err error) {
	if !p.there {
		return 0, 0, nil
	}
	err = filepath.WalkDir(p.live(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), workPrefix) {
			return fs.SkipDir
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
			files++
		}
		return nil
	})
	return bytes, files, err
}

// outcome says whose the restored file, or Chroma's directory, will be.
func (p part) outcome(src *source) (attributes, error) {
	switch {
	case p.there:
		return attributesAt(p.live())
	case p.whole() || p.from == "":
		root, err := rootOf(p, src)
		return attributes{uid: root.UID, gid: root.GID, mode: root.Mode}, err
	}
	return p.wanted(p.dir, src, p.name, p.from)
}
