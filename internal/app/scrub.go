package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// ScrubTimeout bounds a scheduled scrub.
const ScrubTimeout = 24 * time.Hour

// ScrubEnough is when the daemon's scrub leaves the rest for the next one.
const ScrubEnough = ScrubTimeout / 2

// ScrubBounds is how much one scrub does; zero is no bound. At least one
// snapshot is always checked.
type ScrubBounds struct {
	Bytes int64
	Time  time.Duration
}

// Scrubbed is the document of `scrub`.
type Scrubbed struct {
	Checked []snapshot.Result `json:"checked"`
	Left    int               `json:"left"`   // snapshots that the bounds left for the next run
	Rotten  []snapshot.Stamp  `json:"rotten"` // those that were good once and are not, whenever that was found
}

// Scrub re-validates stored snapshots, least recently checked first. It fails
// with kind Invalid, after it has looked at the others, as long as there is one
// that was good and is not any more: one that is neither healed nor gone is no
// better for having been told of before.
func (a *App) Scrub(ctx context.Context, now time.Time, bounds ScrubBounds) (Scrubbed, error) {
	doc := Scrubbed{Checked: []snapshot.Result{}, Rotten: []snapshot.Stamp{}}
	err := a.runJob(ctx, "scrub", health.LegScrub, history.Run{}, func(run *jobRun) error {
		list, _, err := a.Snapshots(ctx, now)
		if err != nil {
			return err
		}
		run.begun()
		slices.SortStableFunc(list, func(x, y snapshot.Snapshot) int { return x.Checked.Compare(y.Checked) })
		chosen := within(list, bounds.Bytes)
		doc.Left = len(list) - len(chosen)
		start := time.Now()
		enough := func() bool { return bounds.Time > 0 && time.Since(start) > bounds.Time }
		doc.Checked, run.Bytes, err = a.validateEach(ctx, chosen, enough, nil)
		doc.Left += len(chosen) - len(doc.Checked)
		run.Detail, _ = json.Marshal(health.RunDetail{Left: doc.Left}) // numbers always encode
		if err != nil {
			return err
		}
		rotten, err := a.damaged(ctx, now)
		for _, s := range rotten {
			doc.Rotten = append(doc.Rotten, s.Stamp)
		}
		if err != nil {
			return err
		}
		return damagedError("scrub", rotten, "suspect the disk; "+a.remedyOf(ctx, now, rotten))
	})
	return doc, err
}

// within returns the first snapshots that have no more bytes than most, and at
// least one.
func within(list []snapshot.Snapshot, most int64) []snapshot.Snapshot {
	var sum int64
	for i, s := range list {
		if sum += s.Bytes; most > 0 && i > 0 && sum > most {
			return list[:i]
		}
	}
	return list
}

// ValidateAll re-reads every snapshot, oldest first, and calls each (which may be
// nil) with the judgements as they come.
func (a *App) ValidateAll(ctx context.Context, now time.Time, each func(snapshot.Result)) ([]snapshot.Result, error) {
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return nil, err
	}
	results, _, err := a.validateEach(ctx, list, func() bool { return false }, each)
	return results, err
}

// validateEach validates snapshots until there was enough, with one progress for
// all of them. One that is being pruned, or is gone, is left out.
func (a *App) validateEach(ctx context.Context, list []snapshot.Snapshot, enough func() bool,
	each func(snapshot.Result)) (results []snapshot.Result, bytes int64, err error) {
	results = []snapshot.Result{}
	var total int64
	for _, s := range list {
		total += s.Bytes
	}
	progress := a.progressOf("scrub")
	for _, s := range list {
		if enough() && len(results) > 0 {
			break
		}
		read := func(step string, done, _ int64) {
			if step == "checksums" { // each file once
				progress("checking", bytes+done, total)
			}
		}
		result, err := a.validateOne(ctx, s.Stamp, read)
		if failure.KindOf(err) == failure.Locked || err == nil && !result.Exists {
			total -= s.Bytes
			continue
		}
		if err != nil {
			return results, bytes, err
		}
		bytes += s.Bytes
		results = append(results, result)
		if each != nil {
			each(result)
		}
	}
	return results, bytes, nil
}

func (a *App) validateOne(ctx context.Context, stamp snapshot.Stamp, progress fsx.Progress) (snapshot.Result, error) {
	hold, err := a.store.LockShared(stamp)
	if failure.KindOf(err) == failure.NotFound {
		return snapshot.Result{}, nil
	}
	if err != nil {
		return snapshot.Result{}, err
	}
	defer hold.Unlock()
	o := a.validateOptions(stamp)
	o.Progress = progress
	return a.validateAndRecord(ctx, stamp, o, a.store.Validate)
}

// damaged returns the snapshots that are not valid and were not taken as such,
// oldest first.
func (a *App) damaged(ctx context.Context, now time.Time) (rotten []snapshot.Snapshot, err error) {
	list, _, err := a.Snapshots(ctx, now)
	for _, s := range list {
		if isDamaged(s) {
			rotten = append(rotten, s)
		}
	}
	return rotten, err
}

// damagedError names what is rotten, and what to do about it; nil when nothing is.
func damagedError(op string, rotten []snapshot.Snapshot, hint string) error {
	if len(rotten) == 0 {
		return nil
	}
	var texts []string
	for _, s := range rotten {
		texts = append(texts, string(s.Stamp)+" ("+firstFew(s.Errors)+")")
	}
	subject := "1 snapshot"
	if len(rotten) > 1 {
		subject = fmt.Sprintf("%d snapshots", len(rotten))
	}
	return &failure.Error{Op: op, Subject: subject, Kind: failure.Invalid,
		Err: fmt.Errorf("no longer valid: %s", strings.Join(texts, ", ")), Hint: hint}
}

// firstFew returns the first findings of a list, and how many more there are.
func firstFew(findings []string) string {
	const most = 3
	switch n := len(findings); {
	case n == 0:
		return "invalid"
	case n > most:
		return fmt.Sprintf("%s; and %d more", strings.Join(findings[:most], "; "), n-most)
	}
	return strings.Join(findings, "; ")
}
