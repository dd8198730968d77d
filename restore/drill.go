package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// DrillRequest says which snapshot is to be restored for practice. The caller
// holds the snapshot's shared lock.
type DrillRequest struct {
	Dir     string // the snapshot's directory
	Stamp   snapshot.Stamp
	Scratch string   // an existing directory with room; "" is the system's for temporary files
	Queries []string // SQL that must be true on the restored database

	RequiredTables []string
	Described      bool  // see snapshot.ValidateOptions
	MinFree        int64 // bytes that must stay free in Scratch
	Share          bool  // reflink where the file system can
	Progress       fsx.Progress
}

// DrillResult is what a drill found.
type DrillResult struct {
	Stamp              string           `json:"stamp"`
	PreRestoreSnapshot string           `json:"pre_restore_snapshot"` // of a live drill
	Live               bool             `json:"live"`
	Passed             bool             `json:"passed"`
	Errors             []string         `json:"errors"`       // why it did not pass
	Surprises          []string         `json:"surprises"`    // passed all the same
	DurationsMS        map[string]int64 `json:"durations_ms"` // by step
	DurationMS         int64            `json:"duration_ms"`
	Bytes              int64            `json:"bytes"` // restored
	Files              int              `json:"files"`
}

func newDrillResult(stamp string) DrillResult {
	return DrillResult{Stamp: stamp, Errors: []string{}, Surprises: []string{}, DurationsMS: map[string]int64{}}
}

// step runs one part of a drill, takes its time, and notes its error. What
// ended because ctx was cancelled is no finding.
func (d *DrillResult) step(name string, run func() error) bool {
	start := time.Now()
	err := run()
	d.DurationsMS[name] = time.Since(start).Milliseconds()
	if err != nil {
		d.Errors = append(d.Errors, fmt.Sprintf("%s: %v", name, err))
	}
	return err == nil
}

// count adds up what is restored.
func (d *DrillResult) count(list []*artifact, src *source) error {
	for _, a := range list {
		entries, _, err := a.entries(src)
		if err != nil {
			return err
		}
		bytes, files := totals(entries)
		d.Bytes += bytes
		d.Files += files
	}
	return nil
}

func (d *DrillResult) close(start time.Time) {
	d.DurationMS = time.Since(start).Milliseconds()
	d.Passed = len(d.Errors) == 0
}

// Drill restores a snapshot into a scratch directory, checks everything that
// can be checked without the application, and deletes the scratch directory
// whatever happened. A drill that does not pass is a DrillResult, not an error;
// the error is for what kept it from being held, such as a cancelled ctx or no
// room.
func Drill(ctx context.Context, r DrillRequest) (result DrillResult, err error) {
	start := time.Now()
	result = newDrillResult(string(r.Stamp))
	src, err := openSource(r.Dir, r.Stamp, tree.Trusted(""))
	if err != nil {
		return result, &failure.Error{
			Op:      "drill",
			Subject: string(r.Stamp),
			Kind:    failure.NotFound,
			Err:     err,
			Hint:    "see `atobackupd list`",
		}
	}
	defer src.close()
	d := &drill{DrillRequest: r, result: &result, src: src,
		session: &session{Journal: &Journal{}, share: r.Share, keepOwner: hasChown(), progress: r.Progress}}
	// What a restore refuses, a drill must not pass.
	if !result.step("validate", func() error { return d.validate(ctx) }) {
		result.close(start)
		return result, ctx.Err()
	}
	list, err := d.prepare()
	if err != nil {
		return result, err
	}
	scratch, err := os.MkdirTemp(r.Scratch, "atobackupd-drill-"+string(r.Stamp)+"-")
	if err != nil {
		return result, r.notHeld(err)
	}
	defer func() {
		if removed := fsx.RemoveAll(scratch); removed != nil {
			result.Surprises = append(
				result.Surprises,
				fmt.Sprintf("the scratch directory could not be removed: %v", removed),
			)
		}
		result.close(start)
	}()
	d.run(ctx, scratch, list)
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	return result, nil
}

// validate is the judgement that a restore begins with.
func (d *drill) validate(ctx context.Context) error {
	o := snapshot.ValidateOptions{RequiredTables: d.RequiredTables, Described: d.Described, Progress: d.Progress}
	if err := d.src.validate(ctx, true, o); err != nil {
		return err
	}
	if !d.src.valid() {
		return fmt.Errorf("the snapshot is not valid: %s", clip(d.src.problems))
	}
	return nil
}

func (r DrillRequest) notHeld(err error) error {
	kind := failure.KindOf(err)
	if isNoSpace(err) {
		kind = failure.NoSpace
	}
	return &failure.Error{
		Op:      "drill",
		Subject: string(r.Stamp),
		Kind:    kind,
		Err:     err,
		Hint:    "nothing was restored, so nothing was proven",
	}
}

// prepare finds what is to be restored and whether there is room.
func (d *drill) prepare() ([]*artifact, error) {
	list, missing := stored(d.src, false)
	if len(missing) > 0 {
		return nil, d.notHeld(errors.New(clip(missing)))
	}
	if err := d.result.count(list, d.src); err != nil {
		return nil, d.notHeld(err)
	}
	where := d.Scratch
	if where == "" {
		where = os.TempDir()
	}
	if err := fsx.RequireFree(where, d.result.Bytes, d.MinFree); err != nil {
		return nil, d.notHeld(err)
	}
	return list, nil
}

// drill is one drill under way.
type drill struct {
	DrillRequest
	*session
	result *DrillResult
	src    *source
}

func (d *drill) run(ctx context.Context, scratch string, list []*artifact) {
	to, err := tree.Open(scratch, tree.Trusted(""))
	if err != nil {
		d.result.Errors = append(d.result.Errors, err.Error())
		return
	}
	defer to.Close()
	where := map[string]string{}
	for _, a := range list {
		where[a.name] = filepath.Join(scratch, a.live())
		if !d.result.step("restore "+a.name, func() error { return d.extractArtifact(ctx, to, a, d.src) }) {
			return
		}
	}
	d.result.Surprises = append(d.result.Surprises, d.warnings...)
	db, ok := where[snapshot.DB]
	if !ok {
		d.result.Errors = append(d.result.Errors, "db_snapshot_missing: the snapshot holds no database")
		return
	}
	d.result.step("integrity", func() error { return d.integrity(ctx, db) })
	d.result.step("rows", func() error { return d.rows(ctx, db) })
	if dir, ok := where[snapshot.Chroma]; ok {
		d.result.step("chroma", func() error { return d.chroma(ctx, dir) })
	}
	d.result.step("queries", func() error { return d.queries(ctx, db) })
}

func (d *drill) integrity(ctx context.Context, db string) error {
	bad, warnings, err := sqlite.Check(ctx, db, sqlite.CheckOptions{RequiredTables: d.RequiredTables})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		d.result.Surprises = append(d.result.Surprises, w.Code+": "+w.Text)
	}
	var all []error
	for _, f := range bad {
		all = append(all, errors.New(f.Code+": "+f.Text))
	}
	return errors.Join(all...)
}

// rows compares the row counts with those that the manifest recorded.
func (d *drill) rows(ctx context.Context, db string) error {
	info, err := sqlite.Inspect(ctx, db)
	if err != nil {
		return err
	}
	if d.src.manifest == nil || d.src.manifest.DB == nil {
		d.result.Surprises = append(d.result.Surprises, "there is no manifest to compare the row counts with")
		return nil
	}
	return compareRows(d.src.manifest.DB.Tables, info.Tables)
}

func compareRows(want, got map[string]int64) error {
	var all []error
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch rows, ok := got[name]; {
		case !ok:
			all = append(all, fmt.Errorf("table %s is not there", name))
		case rows != want[name]:
			all = append(all, fmt.Errorf("table %s has %d rows, the manifest says %d", name, rows, want[name]))
		}
	}
	return errors.Join(all...)
}

func (d *drill) chroma(ctx context.Context, dir string) error {
	report, err := chroma.Validate(ctx, dir)
	if err != nil {
		return err
	}
	for _, w := range report.Warnings {
		d.result.Surprises = append(d.result.Surprises, w.String())
	}
	return report.Err("chroma")
}

func (d *drill) queries(ctx context.Context, db string) error {
	var all []error
	for _, query := range d.Queries {
		if yes, err := sqlite.QueryTrue(ctx, db, tree.Trusted(""), query); err != nil {
			all = append(all, err)
		} else if !yes {
			all = append(all, fmt.Errorf("%q is not true on the restored database", query))
		}
	}
	return errors.Join(all...)
}
