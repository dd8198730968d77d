package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/snapshot"
)

// Validate re-reads one snapshot and remembers the judgement. A snapshot that
// does not exist is a Result too.
func (a *App) Validate(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
	lock, err := a.store.Hold(stamp)
	if err != nil && failure.KindOf(err) != failure.NotFound {
		return snapshot.Result{}, err
	}
	defer lock.Unlock()
	return a.judge(ctx, stamp, a.store.Validate)
}

// judge runs one validation with the configuration's wishes and remembers it.
func (a *App) judge(ctx context.Context, stamp snapshot.Stamp, validate func(context.Context, snapshot.Stamp, snapshot.ValidateOptions) (snapshot.Result, error)) (snapshot.Result, error) {
	start := time.Now()
	result, err := validate(ctx, stamp, a.validateOptions(stamp))
	if err != nil || !result.Exists {
		return result, err
	}
	v := history.Validation{Stamp: string(stamp), CheckedAt: start, Valid: result.Valid, Errors: result.Errors, Duration: time.Since(start)}
	if !a.Options.ReadOnly {
		a.record(a.history.PutValidation(ctx, v))
	}
	return result, nil
}

func (a *App) validateOptions(stamp snapshot.Stamp) snapshot.ValidateOptions {
	count := newByteCount(func(step string, done int64) { a.progress(string(stamp)+" "+step, done, 0) })
	return snapshot.ValidateOptions{RequiredTables: a.Config.AtoCore.RequiredTables, Progress: count.add}
}

// adoptOptions says what an adopted snapshot's manifest records.
func (a *App) adoptOptions(o snapshot.ValidateOptions) snapshot.AdoptOptions {
	return snapshot.AdoptOptions{Host: a.Options.Host, ToolVersion: a.Options.Version, Sources: a.sources(), Validate: o}
}

// judgeNew validates the snapshots that nobody ever validated and adopts the
// good ones. The caller holds the main lock.
func (a *App) judgeNew(ctx context.Context, list []snapshot.Snapshot) error {
	for i := range list {
		s := &list[i]
		if s.Valid != nil && s.Manifest != nil {
			continue
		}
		result, err := a.judge(ctx, s.Stamp, func(ctx context.Context, stamp snapshot.Stamp, o snapshot.ValidateOptions) (snapshot.Result, error) {
			result, err := a.store.Adopt(ctx, stamp, a.adoptOptions(o))
			if err != nil && result.Valid && ctx.Err() == nil {
				// It is good, and only its manifest could not be written.
				a.Options.Log.Warn("a snapshot made by AtoCore could not be adopted", "stamp", stamp, "error", err)
				err = nil
			}
			return result, err
		})
		if err != nil {
			return err
		}
		s.Valid, s.Errors, s.Checked = &result.Valid, result.Errors, time.Now()
	}
	return nil
}

// Scrubbed is the document of `scrub`.
type Scrubbed struct {
	Checked []snapshot.Result `json:"checked"`
	Left    int               `json:"left"` // snapshots that the bounds left for the next run
}

// Scrub re-validates stored snapshots, least recently checked first, until
// maxBytes were read (0: all). A bad one makes it fail with kind Invalid after
// it has looked at the others.
func (a *App) Scrub(ctx context.Context, now time.Time, maxBytes int64) (Scrubbed, error) {
	doc := Scrubbed{Checked: []snapshot.Result{}}
	err := a.runJob(ctx, "scrub", legScrub, history.Run{}, func(run *history.Run) error {
		list, _, err := a.snapshots(ctx, now)
		if err != nil {
			return err
		}
		slices.SortStableFunc(list, func(x, y snapshot.Snapshot) int { return x.Checked.Compare(y.Checked) })
		var bad []string
		for i, s := range list {
			if maxBytes > 0 && run.Bytes > 0 && run.Bytes+s.Bytes > maxBytes {
				doc.Left = len(list) - i
				break
			}
			// One that never was good, or was taken of a store that was not, is no news.
			wasGood := s.IsValid()
			result, err := a.Validate(ctx, s.Stamp)
			if err != nil {
				if failure.KindOf(err) == failure.Locked {
					continue
				}
				return err
			}
			run.Bytes += s.Bytes
			doc.Checked = append(doc.Checked, result)
			if !result.Valid && (wasGood || s.Kind != snapshot.PreRestore) && result.Exists {
				bad = append(bad, fmt.Sprintf("%s (%s)", s.Stamp, cmp.Or(firstOf(result.Errors), "invalid")))
			}
		}
		if len(bad) > 0 {
			return &failure.Error{Op: "scrub", Subject: fmt.Sprintf("%d of %d snapshots", len(bad), len(doc.Checked)), Kind: failure.Invalid,
				Err: fmt.Errorf("no longer valid: %s", bad), Hint: "suspect the disk; fetch them from the vault, or take a fresh one"}
		}
		return nil
	})
	return doc, err
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
